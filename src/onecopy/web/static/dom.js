// Elements and tables. All text goes into text nodes: nothing here reads HTML.

export const find = (id) => document.getElementById(id);

export function make(tag, settings = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(settings)) {
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (name === "on") for (const [event, call] of Object.entries(value)) element.addEventListener(event, call);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function mark(element, name) {
  if (element.className !== name) element.className = name;
}

// Rows are kept from one update to the next, so that a selection, the focus and the place of a
// scroll bar stay.
export class Table {
  constructor(place, title, columns, empty) {
    this.columns = columns;
    this.rows = new Map();
    this.place = place;
    this.empty = make("p", { class: "empty", text: empty });
    this.more = make("p", { class: "more" });
    this.body = make("tbody");
    this.table = make(
      "table",
      { "aria-label": title },
      make(
        "thead",
        {},
        make("tr", {}, ...columns.map((each) => make("th", { scope: "col", text: each.title, class: each.class ?? "" }))),
      ),
      this.body,
    );
    place.replaceChildren(this.table, this.more, this.empty);
  }

  show(records, all) {
    this.table.hidden = records.length === 0;
    this.empty.hidden = records.length > 0;
    this.more.hidden = all <= records.length;
    say(this.more, `and ${all - records.length} more, which are not shown`);
    const scrolls = this.place.scrollHeight > this.place.clientHeight || this.place.scrollWidth > this.place.clientWidth;
    if (scrolls) {
      this.place.tabIndex = 0;
      this.place.setAttribute("role", "region");
      this.place.setAttribute("aria-label", this.table.getAttribute("aria-label"));
    } else {
      for (const name of ["tabindex", "role", "aria-label"]) this.place.removeAttribute(name);
    }
    const gone = new Set(this.rows.keys());
    let before = null;
    for (const record of records) {
      gone.delete(record.id);
      let row = this.rows.get(record.id);
      if (row === undefined) {
        row = make("tr", {}, ...this.columns.map((each) => this.cell(each)));
        this.rows.set(record.id, row);
      }
      const expected = before === null ? this.body.firstChild : before.nextSibling;
      if (row !== expected) this.body.insertBefore(row, expected);
      this.columns.forEach((column, index) => column.fill(row.children[index], record));
      before = row;
    }
    for (const id of gone) {
      this.rows.get(id).remove();
      this.rows.delete(id);
    }
  }

  cell(column) {
    const cell = make("td", { class: column.class ?? "" });
    if (column.make) cell.append(column.make());
    return cell;
  }

  clear() {
    this.rows.clear();
    this.body.replaceChildren();
  }
}

// A column of text. `text(record)` returns it, or null for "nothing".
export function column(title, text, settings = {}) {
  return {
    title,
    class: settings.class,
    fill(cell, record) {
      const value = text(record);
      say(cell, value ?? "–");
      if (settings.look) mark(cell, `${settings.class ?? ""} ${settings.look(record)}`.trim());
      if (settings.hint) {
        const hint = settings.hint(record);
        if (cell.title !== hint) cell.title = hint;
      }
    },
  };
}

export const number = (title, text, settings = {}) =>
  column(title, text, { ...settings, class: `number ${settings.class ?? ""}`.trim() });

// A name may be long: three lines of it are shown, and all of it as a hint.
export function name(title, text, hint = text) {
  return {
    title,
    class: "name",
    make: () => make("span", { class: "clamp" }),
    fill(cell, record) {
      say(cell.firstChild, text(record));
      mark(cell.firstChild, record.named === false ? "clamp quiet" : "clamp");
      if (cell.title !== hint(record)) cell.title = hint(record);
    },
  };
}
