// The last minutes of rates and depths. The browser keeps them; the server does not.
/* global uPlot */

import { count } from "./words.js";

const MINUTES = 5;
const WHOLE = [1, 2, 5].flatMap((first) => [...Array(10).keys()].map((power) => first * 10 ** power)).sort((a, b) => a - b);
const SHOWN = 6; // series that are shown without being asked for

export class History {
  constructor(colours) {
    this.colours = colours;
    this.clear();
  }

  clear() {
    this.times = [];
    this.series = new Map(); // by the id of a queue or stream
    this.at = null;
  }

  // Add a snapshot, unless it is the one that was added last.
  add(snapshot, now) {
    if (snapshot.at === this.at) return;
    this.at = snapshot.at;
    this.times.push(now);
    const points = [
      ...snapshot.queues.map((each) => [each, each.put_rate, each.taken_rate, each.depth, null]),
      ...snapshot.streams.map((each) => [each, each.rate, null, null, each.behind]),
    ];
    for (const [thing, rate, taken, depth, behind] of points) {
      let one = this.series.get(thing.id);
      if (one === undefined) {
        const shown = [...this.series.values()].filter((each) => each.shown).length < SHOWN;
        const empty = () => new Array(this.times.length - 1).fill(null);
        one = { shown, colour: this.colours.of(thing.id), rate: empty(), taken: empty(), depth: empty(), behind: empty() };
        this.series.set(thing.id, one);
      }
      one.rate.push(rate);
      one.taken.push(taken);
      one.depth.push(depth);
      one.behind.push(behind);
    }
    for (const [id, one] of this.series) {
      for (const line of [one.rate, one.taken, one.depth, one.behind]) {
        if (line.length < this.times.length) line.push(null);
      }
      if (one.rate.every((value) => value === null) && one.depth.every((value) => value === null) && one.behind.every((value) => value === null)) {
        this.series.delete(id);
      }
    }
    while (this.times.length > 1 && this.times[0] < now - MINUTES * 60) {
      this.times.shift();
      for (const one of this.series.values()) {
        for (const line of [one.rate, one.taken, one.depth, one.behind]) line.shift();
      }
    }
  }
}

class Chart {
  constructor(place, solid, dashed) {
    this.place = place;
    this.solid = solid;
    this.dashed = dashed;
    this.plot = null;
    this.looks = "";
  }

  // What a plot is made of. If it changes, the plot is made again.
  lines(history) {
    const found = [];
    for (const [id, one] of history.series) {
      if (!one.shown) continue;
      for (const [key, dash] of [[this.solid, false], [this.dashed, true]]) {
        if (one[key].some((value) => value !== null)) found.push({ id, key, dash, colour: one.colour, data: one[key] });
      }
    }
    return found;
  }

  show(history) {
    const lines = this.lines(history);
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const width = this.place.clientWidth;
    const height = this.place.clientHeight;
    if (width === 0) return;
    const looks = JSON.stringify([lines.map((each) => [each.id, each.key]), dark, width, height]);
    const data = [history.times, ...lines.map((each) => each.data)];
    if (looks !== this.looks) {
      this.looks = looks;
      this.plot?.destroy();
      this.plot = new uPlot(this.settings(lines, width, height), data, this.place);
    } else {
      this.plot.setData(data);
    }
  }

  settings(lines, width, height) {
    const style = getComputedStyle(document.documentElement);
    const text = style.getPropertyValue("--muted").trim();
    const grid = { stroke: style.getPropertyValue("--line").trim(), width: 1 };
    const axis = { stroke: text, font: "12px system-ui, sans-serif", grid, ticks: { show: false } };
    const clock = (seconds) => new Date(seconds * 1000).toTimeString().slice(0, 8);
    return {
      width,
      height,
      legend: { show: false },
      cursor: { show: false },
      scales: {
        x: { range: (plot, least, most) => [Math.min(least, most - 60), most] },
        y: { range: (plot, least, most) => [0, most > 0 ? most * 1.1 : 1] },
      },
      axes: [
        { ...axis, size: 28, space: 90, values: (plot, ticks) => ticks.map(clock) },
        { ...axis, size: 52, space: 34, ...(this.solid === "depth" ? { incrs: WHOLE } : {}), values: (plot, ticks) => ticks.map((each) => (each === null ? "" : brief(each))) },
      ],
      series: [
        {},
        ...lines.map((each) => ({ stroke: each.colour, width: 1.75, dash: each.dash ? [5, 4] : undefined, points: { show: false }, spanGaps: true })),
      ],
    };
  }
}

function brief(value) {
  if (value >= 1e6) return `${value / 1e6} M`;
  if (value >= 1e4) return `${value / 1e3} k`;
  return value % 1 === 0 ? count(value) : value.toFixed(2).replace(/0$/, "");
}

export class Charts {
  constructor(rates, depths, history) {
    this.history = history;
    this.all = [new Chart(rates, "rate", "taken"), new Chart(depths, "depth", "behind")];
    const again = () => this.show();
    new ResizeObserver(again).observe(rates);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  }

  show() {
    if (this.history.times.length > 0) for (const each of this.all) each.show(this.history);
  }

  toggle(id) {
    const one = this.history.series.get(id);
    if (one === undefined) return;
    one.shown = !one.shown;
    this.show();
  }
}
