// The memory of a pool in the order of its addresses, in parts of equal size.

import { Colours } from "./colours.js";
import { find, make, mark, say } from "./dom.js";
import { percent, size } from "./words.js";

const LEVELS = 4;
const FREE = [0, null, null];

export class MemoryMap {
  constructor(ofThings, ofProcesses) {
    this.ofThings = ofThings;
    this.ofProcesses = ofProcesses;
    this.byProcess = false;
    this.cells = [];
    this.pool = null;
    this.pointed = null;
    this.grid = find("map");
    this.grid.addEventListener("pointerover", (event) => this.point(event));
    this.grid.addEventListener("pointerleave", () => this.point(null));
    this.grid.addEventListener("click", (event) => this.point(event));
    for (const [id, byProcess] of [["by-thing", false], ["by-process", true]]) {
      find(id).addEventListener("click", () => {
        this.byProcess = byProcess;
        this.draw();
      });
    }
  }

  show(pool) {
    this.pool = pool;
    this.cells = pool.memory.map.flatMap(([many, ...looks]) => Array(many).fill(looks));
    this.draw();
  }

  draw() {
    find("by-thing").setAttribute("aria-pressed", String(!this.byProcess));
    find("by-process").setAttribute("aria-pressed", String(this.byProcess));
    while (this.grid.children.length > this.cells.length) this.grid.lastChild.remove();
    while (this.grid.children.length < this.cells.length) this.grid.append(make("i"));
    this.cells.forEach(([full, thing, process], index) => {
      const cell = this.grid.children[index];
      const colour = full === 0 ? "" : this.byProcess ? this.colourOfProcess(process) : this.colourOfThing(thing);
      const look = `${colour} ${full}`;
      if (cell.dataset.look === look) return;
      cell.dataset.look = look;
      mark(cell, full === 0 ? "free" : this.byProcess && process === "several" ? "several" : "");
      cell.style.background = colour === "several" ? "" : colour;
      cell.style.opacity = full === 0 ? "" : String(0.25 + (0.75 * full) / LEVELS);
    });
    this.describe();
  }

  colourOfThing(thing) {
    return typeof thing === "number" ? this.ofThings.of(this.pool.memory.parts[thing].id) : Colours.other;
  }

  colourOfProcess(process) {
    if (process === "several") return "several";
    return typeof process === "number" ? this.ofProcesses.of(this.pool.memory.holders[process].id) : Colours.other;
  }

  point(event) {
    const place = event === null ? -1 : [...this.grid.children].indexOf(event.target);
    this.pointed = place < 0 ? null : place;
    this.describe();
  }

  describe() {
    say(find("map-said"), this.pointed === null || this.pointed >= this.cells.length ? this.general() : this.partly(this.pointed));
  }

  general() {
    return `Each part is ${size(this.pool.memory.cell)}. Point at one to see what is in it.`;
  }

  partly(index) {
    const [full, thing, process] = this.cells[index] ?? FREE;
    const { cell, parts, holders } = this.pool.memory;
    const where = `At ${size(index * cell)}: `;
    if (full === 0) return `${where}free.`;
    const used = full === LEVELS ? "" : `at most ${percent(full, LEVELS)} used; `;
    const kept =
      typeof thing === "number" ? `${parts[thing].name} (${parts[thing].kind})` : thing === "held" ? "kept by nothing" : "a smaller thing";
    const held =
      typeof process === "number"
        ? `held by ${holders[process].name}`
        : { several: "held by several processes", none: "held by no process", other: "held by another process" }[process];
    return `${where}${used}${kept}; ${held}.`;
  }
}
