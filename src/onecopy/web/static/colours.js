// A thing keeps its colour while the page is open.

const COLOURS = [
  "#2f7fd1", "#d9822b", "#2f9e6e", "#c4527d", "#8467cf", "#23a0a8", "#b38f1f", "#d0563b", "#6b8f2a", "#9a6a4a", "#5a77a8", "#b05bb8",
];
const OTHER = "#8b929b";

export class Colours {
  constructor() {
    this.known = new Map();
  }

  of(id) {
    if (!this.known.has(id)) this.known.set(id, COLOURS[this.known.size % COLOURS.length]);
    return this.known.get(id);
  }

  static get other() {
    return OTHER;
  }
}
