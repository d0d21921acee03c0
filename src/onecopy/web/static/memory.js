// Which things keep the memory of a pool, which processes hold it, and where it lies.

import { Colours } from "./colours.js";
import { find, make } from "./dom.js";
import { MemoryMap } from "./map.js";
import { percent, size } from "./words.js";

export class Memory {
  constructor(colours) {
    this.colours = colours;
    this.ofProcesses = new Colours();
    this.map = new MemoryMap(colours, this.ofProcesses);
    this.last = "";
  }

  show(pool) {
    const now = JSON.stringify([pool.memory, pool.size]);
    if (now === this.last) return;
    this.last = now;
    this.showThings(pool);
    this.showProcesses(pool);
    this.map.show(pool);
  }

  showThings(pool) {
    const bar = [];
    const legend = [];
    for (const part of pool.memory.parts) {
      const box = make("i");
      const sample = make("i");
      if (part.kind === "free") {
        box.className = sample.className = "free";
      } else {
        const colour = part.kind === "other" || part.kind === "held" ? Colours.other : this.colours.of(part.id);
        box.style.background = sample.style.background = colour;
        if (part.kind === "held") box.style.opacity = sample.style.opacity = "0.6";
      }
      box.style.flex = `${part.bytes} 0 0`;
      if (part.bytes > 0) bar.push(box);
      const plain = part.kind === "free" || part.kind === "other" || part.kind === "held";
      const name = make("b", { title: part.name }, part.name);
      if (!plain) name.append(" ", make("span", { text: part.kind }));
      legend.push(make("li", {}, sample, name, make("span", { text: `${size(part.bytes)} · ${percent(part.bytes, pool.size)}` })));
    }
    find("bar").replaceChildren(...bar);
    find("legend").replaceChildren(...legend);
  }

  showProcesses(pool) {
    const holders = pool.memory.holders.map((each) => {
      const fill = make("i");
      fill.style.width = `${Math.min(100, (100 * each.bytes) / pool.size)}%`;
      fill.style.background = this.ofProcesses.of(each.id);
      return make(
        "li",
        {},
        make("span", { text: each.name, title: each.name }),
        make("span", { text: `${size(each.bytes)} · ${percent(each.bytes, pool.size)}` }),
        make("div", {}, fill),
      );
    });
    if (pool.memory.more_holders > 0) holders.push(make("li", { class: "quiet", text: `and ${pool.memory.more_holders} more` }));
    if (holders.length === 0) holders.push(make("li", { class: "empty", text: "No process holds memory." }));
    find("holders").replaceChildren(...holders);
  }
}
