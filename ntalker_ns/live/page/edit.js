// The card "Edit": what is asked of the server, how far it is, and which head is shown.

import { figures } from "/page/figures.js";

const byId = (id) => document.getElementById(id);

export class EditCard {
  /**
   * @param connection to the server
   * @param changed called with the wipe and whether the head is an edited one, when either changes
   */
  constructor(connection, changed) {
    this.connection = connection;
    this.changed = changed;
    this.sheet = null;
    byId("edit").addEventListener("submit", (event) => {
      event.preventDefault();
      this.attempt(async () => this.show(await this.connection.post("/edit", await this.request())));
    });
    byId("try").addEventListener("click", () => this.attempt(() => this.preview()));
    byId("stop").addEventListener("click", () => this.attempt(async () => this.show(await this.connection.post("/edit/stop", "{}"))));
    byId("editor").addEventListener("change", () => this.showFields());
    byId("head").addEventListener("change", ({ target }) =>
      this.attempt(async () => this.show(await this.connection.post("/head", JSON.stringify({ index: Number(target.value) })))),
    );
    byId("wipe").addEventListener("input", () => this.tell());
  }

  async attempt(work) {
    this.say("");
    try {
      await work();
    } catch (error) {
      this.say(error.message, true);
    }
  }

  say(text, failed = false) {
    byId("edit-says").textContent = text;
    byId("edit-says").classList.toggle("failed", failed);
  }

  /** What the fields ask for; empty ones are left to the server. */
  async request() {
    const wanted = { instruction: byId("instruction").value, editor: byId("editor").value };
    if (byId("preset").value) wanted.preset = byId("preset").value;
    if (byId("updates").value) wanted.updates = Number(byId("updates").value);
    if (byId("frames").value) wanted.frames = Number(byId("frames").value);
    if (byId("epochs").value) wanted.epochs = Number(byId("epochs").value);
    const file = byId("edited-frame").files[0];
    if (wanted.editor === "picture" && file) wanted.picture = await inBase64(file);
    return JSON.stringify(wanted);
  }

  async preview() {
    byId("try").disabled = true;
    this.say("Editing one frame …");
    try {
      const jpeg = await this.connection.postForPicture("/edit/preview", await this.request());
      this.showPicture(jpeg);
      this.say("Left before, right after the editor, at its strongest.");
      figures.previews = (figures.previews ?? 0) + 1;
    } finally {
      byId("try").disabled = false;
    }
  }

  /** Shows what the server says of heads and edits. */
  show(facts) {
    figures.edit = facts;
    fill(byId("editor"), facts.editors.map((name) => [name, name]));
    fill(byId("preset"), [["", "none"], ...facts.presets.map((name) => [name, name])]);
    fill(byId("head"), facts.heads.map((name, index) => [String(index), name]));
    byId("head").value = String(facts.shown);
    byId("start").disabled = facts.running;
    byId("stop").hidden = byId("bar").hidden = !facts.running;
    byId("bar").value = facts.fraction ?? 0;
    if (facts.says) this.say(facts.says);
    document.body.classList.toggle("is-edited", facts.edited);
    document.body.classList.toggle("has-before", facts.has_before);
    document.body.classList.toggle("has-heads", facts.heads.length > 1);
    this.showFields();
    if (facts.sheet && facts.sheet !== this.sheet) {
      this.sheet = facts.sheet;
      this.connection.picture("/edit/sheet").then((blob) => this.showPicture(blob), () => {});
    }
    this.edited = facts.edited;
    this.tell();
  }

  showFields() {
    byId("frame-field").hidden = byId("editor").value !== "picture";
  }

  showPicture(blob) {
    const picture = byId("sheet");
    URL.revokeObjectURL(picture.src);
    picture.src = URL.createObjectURL(blob);
    picture.hidden = false;
  }

  tell() {
    this.changed(Number(byId("wipe").value), this.edited);
  }
}

/** Fills a list once: what somebody chose stays. */
function fill(select, options) {
  if (select.options.length === options.length) return;
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
}

async function inBase64(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
}
