// The newest picture of a stream, or a frame of a frame pool. To read it, the server has to join the pool, so a button asks.

import { ask } from "./api.js";
import { find, make, say } from "./dom.js";

export class Picture {
  constructor() {
    this.pool = null;
    this.known = "";
    this.joined = false;
    this.timer = 0;
    this.published = -1;
    this.turn = 0; // a number that changes when what was asked for is no longer wanted
    this.choice = make("select", { on: { change: () => this.restart() } });
    this.bgr = make("input", { type: "checkbox", on: { change: () => this.restart() } });
    this.join = make("button", { type: "button", class: "main", text: "Join the pool to see pictures", on: { click: () => this.enter() } });
    this.leave = make("button", { type: "button", text: "Leave the pool", on: { click: () => this.exit() } });
    this.image = make("img", { alt: "" });
    this.text = make("p", { role: "status" });
    this.about = make("p", {
      class: "note",
      text:
        "To read a message, the server of this page joins the pool: it takes a slot, and appears below Processes. " +
        "It reads without a subscription, so no publisher waits for it. Objects of other classes than numpy's and Python's own are unpickled. " +
        "Of a frame pool it shows the frame that was acquired last, as far as it has seen. It takes no frame away. The process that has the frame may be writing to it: then the picture is half written. " +
        "It leaves when you press Leave, or 10 seconds after this page is closed.",
    });
    this.empty = make("p", { class: "empty", text: "This pool has no stream and no frame pool that has a name." });
    this.controls = make(
      "div",
      { class: "controls" },
      make("label", {}, "Stream or frame pool ", this.choice),
      make("label", {}, this.bgr, " colours are BGR (OpenCV)"),
      this.join,
      this.leave,
    );
    find("picture-body").replaceChildren(this.empty, this.controls, this.image, this.text, this.about);
    this.reset("");
  }

  // Another pool is shown: leave the one that was joined.
  change(pool) {
    if (pool === this.pool) return;
    if (this.joined) this.exit();
    this.pool = pool;
    this.known = "";
    this.reset("");
  }

  // The value of an option is the end of the path of its pictures.
  show(streams, frames) {
    const groups = [
      ["Streams", "streams", streams],
      ["Frame pools", "frames", frames],
    ].map(([label, path, things]) => [label, things.filter((each) => each.key !== null).map((each) => [`${path}/${each.key}`, each.name])]);
    const now = JSON.stringify(groups);
    if (now === this.known) return;
    this.known = now;
    const before = this.choice.value;
    const options = groups.flatMap(([, named]) => named);
    this.choice.replaceChildren(
      ...groups
        .filter(([, named]) => named.length > 0)
        .map(([label, named]) => make("optgroup", { label }, ...named.map(([value, text]) => make("option", { value, text })))),
    );
    if (options.some(([value]) => value === before)) this.choice.value = before;
    this.empty.hidden = options.length > 0;
    this.controls.hidden = this.about.hidden = options.length === 0;
    if (this.joined && options.length > 0) this.restart();
  }

  reset(text) {
    clearTimeout(this.timer);
    this.turn += 1;
    this.joined = false;
    this.published = -1;
    this.image.hidden = true;
    this.image.removeAttribute("src");
    this.join.hidden = false;
    this.leave.hidden = true;
    say(this.text, text);
    this.text.hidden = text === "";
  }

  tell(text) {
    say(this.text, text);
    this.text.hidden = false;
  }

  async enter() {
    const turn = ++this.turn;
    try {
      await ask(`api/pools/${this.pool}/join`, { method: "POST" });
    } catch (error) {
      if (turn === this.turn) this.reset(error.message);
      return;
    }
    if (turn !== this.turn) return;
    this.joined = true;
    this.join.hidden = true;
    this.leave.hidden = false;
    this.leave.focus();
    this.restart();
  }

  exit() {
    const pool = this.pool;
    this.reset("");
    ask(`api/pools/${pool}/leave`, { method: "POST" }).catch(() => undefined);
  }

  restart() {
    if (!this.joined) return;
    clearTimeout(this.timer);
    this.turn += 1;
    this.published = -1;
    this.load(this.turn);
  }

  async load(turn) {
    const bgr = this.bgr.checked ? "&bgr=1" : "";
    let wait = 1;
    if (!document.hidden) {
      try {
        const path = `api/pools/${this.pool}/${this.choice.value}?after=${this.published}${bgr}`;
        const { body, every } = await ask(path);
        if (turn !== this.turn) return;
        wait = every;
        this.draw(body);
      } catch (error) {
        if (turn !== this.turn) return;
        if (error.status === 409 || error.status === 403 || error.status === 0) {
          this.reset(error.status === 409 ? "The server has left the pool, because the page did not ask for 10 seconds." : error.message);
          return;
        }
        this.image.hidden = true;
        this.published = -1;
        this.tell(error.message);
        wait = 2;
      }
    }
    this.timer = setTimeout(() => this.load(turn), wait * 1000);
  }

  draw(body) {
    if (body.same) return;
    this.published = body.published;
    const name = this.choice.selectedOptions[0]?.textContent ?? "";
    const isStream = this.choice.value.startsWith("streams/");
    const number = isStream && body.published > 0 ? `Message ${body.published.toLocaleString("en")}: ` : "";
    this.image.hidden = body.png === "";
    if (body.png !== "") {
      this.image.src = `data:image/png;base64,${body.png}`;
      this.image.alt = `Newest picture of the ${isStream ? "stream" : "frame pool"} ${name}`;
      this.image.className = Math.max(body.width, body.height) < 120 ? "tiny" : "";
    }
    this.tell(`${number}${body.text}`);
  }
}
