// Shows the picture that Python draws, and sends it what the person wishes. Nothing is decided here: where the moment
// comes to be, and why, is Python's answer. Times are whole microseconds since 1970, which a browser holds exactly.

const KEYS = {
  ArrowRight: { do: "step", by: 1 }, ArrowUp: { do: "step", by: 1 }, ArrowLeft: { do: "step", by: -1 },
  ArrowDown: { do: "step", by: -1 }, PageUp: { do: "step", by: 10 }, PageDown: { do: "step", by: -10 },
  Home: { do: "end", last: false }, End: { do: "end", last: true },
  "]": { do: "backup", by: 1 }, "[": { do: "backup", by: -1 },
  "+": { do: "zoom", by: 0.5 }, "=": { do: "zoom", by: 0.5 }, "-": { do: "zoom", by: 2 }, "0": { do: "fit" },
};
const HELP = "On the picture: arrow keys move the moment, ten times as far with Shift or Page Up and Page Down; Home and "
  + "End go to the first and last; [ and ] go to the backup before and after; + and − zoom, 0 shows everything. "
  + "The wheel zooms once the picture has the focus, or with Ctrl.";
const NEAR = 8; // pixels from which a drag snaps to the end of a range
const SILENT = "The kernel has not answered yet: it is busy or gone.";
const PATIENCE = 2000; // milliseconds after which a silent kernel is told of

function make(tag, properties = {}, ...children) {
  const { class: name, ...rest } = properties;
  const node = document.createElement(tag);
  if (name) node.className = name;
  for (const [key, value] of Object.entries(rest)) {
    if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function button(text, label, act) {
  return make("button", { type: "button", title: label, "aria-label": label, onclick: act }, text);
}

// One question at a time: while Python thinks, only the latest of the same kind is kept.
function asking(model, id, silent) {
  let asked = 0;
  let waiting = null;
  let timer = 0;
  const later = new Map();
  function send(question) {
    waiting = `${id}-${++asked}`;
    timer = setTimeout(() => silent(true), PATIENCE);
    model.send({ ...question, asked: waiting });
  }
  return {
    ask(question) {
      if (waiting === null) return send(question);
      const same = later.get(question.do);
      const sum = question.do === "zoom" && same ? { ...question, by: same.by * question.by }
        : question.do === "pan" && same ? { ...question, by: same.by + question.by } : question;
      later.set(question.do, sum);
    },
    answered() {
      if (model.get("_asked") !== waiting) return; // another view's
      clearTimeout(timer);
      silent(false);
      waiting = null;
      const [next] = later.values();
      if (next) {
        later.delete(next.do);
        send(next);
      }
    },
  };
}

function render({ model, el }) {
  const picture = () => model.get("_picture");
  const answer = () => model.get("_answer");
  const id = `opskit-${Math.random().toString(36).slice(2)}`;

  const svg = make("div", { "aria-hidden": "true" });
  const line = make("div", { class: "ot-line" });
  const plot = make("div", { class: "ot-plot", tabIndex: 0, role: "slider", "aria-label": "Moment to restore to",
    "aria-describedby": `${id}-help` }, svg, line);
  const span = make("span", { class: "ot-span" });
  const lanes = make("select");
  const lanesLabel = make("label", {}, "Timeline", lanes);
  const utc = make("input", { type: "text", autocomplete: "off", spellcheck: false, placeholder: "2026-11-22 14:05:00" });
  const local = make("input", { type: "text", autocomplete: "off", spellcheck: false });
  const localName = make("span");
  const localLabel = make("label", {}, localName, local);
  const on = make("span");
  const said = make("p", { role: "status", "aria-live": "polite", id: `${id}-reason` });
  const reason = make("div", { class: "ot-reason" }, said);
  const summary = make("summary");
  const list = make("ul");

  const { ask, answered } = asking(model, id, (isSilent) => {
    if (isSilent) said.textContent = SILENT;
    else if (said.textContent === SILENT) said.textContent = answer().reason;
  });
  const lane = () => (lanes.value ? Number(lanes.value) : null);
  const wish = (question) => ask({ ...question, timeline: lane() });
  const bar = make("div", { class: "ot-bar", role: "group", "aria-label": "What is shown" },
    button("−", "Zoom out", () => ask({ do: "zoom", by: 2 })),
    button("+", "Zoom in", () => ask({ do: "zoom", by: 0.5 })),
    button("◀", "Show earlier", () => ask({ do: "pan", by: -0.5 })),
    button("▶", "Show later", () => ask({ do: "pan", by: 0.5 })),
    button("Everything", "Show everything", () => ask({ do: "fit" })),
    lanesLabel, span);
  const fields = make("div", { class: "ot-fields", role: "group", "aria-label": "The moment" },
    make("label", {}, "UTC", utc), localLabel, on,
    button("‹ backup", "The backup before", () => wish({ do: "backup", by: -1 })),
    button("backup ›", "The backup after", () => wish({ do: "backup", by: 1 })),
    button("Latest", "The latest moment", () => wish({ do: "end", last: true })));
  const root = make("div", { class: "opskit-timeline-widget", "data-lm-suppress-shortcuts": "true" },
    bar, plot, fields, reason,
    make("details", {}, summary, list, make("p", { id: `${id}-help` }, HELP)));
  el.append(root);

  const timeAt = (event) => {
    const { start, end, left, right } = picture();
    const x = Math.min(Math.max(event.clientX - plot.getBoundingClientRect().left, left), right);
    return Math.round(start + ((x - left) / (right - left)) * (end - start));
  };
  const place = (at) => {
    const { start, end, left, right, lanes_end: bottom } = picture();
    line.style.height = `${bottom}px`;
    line.hidden = at === null || at < start || at > end;
    line.style.left = `${left + ((at - start) / (end - start)) * (right - left)}px`;
  };
  let pointed = null; // where the pointer is while it drags
  let y = 0; // where the drag began
  const drag = (event) => {
    const { start, end, left, right } = picture();
    pointed = timeAt(event);
    place(pointed);
    wish({ do: "wish", at: pointed, y, near: Math.round((NEAR * (end - start)) / (right - left)) });
  };
  plot.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    plot.setPointerCapture(event.pointerId);
    plot.focus();
    event.preventDefault();
    y = event.clientY - plot.getBoundingClientRect().top;
    drag(event);
  });
  plot.addEventListener("pointermove", (event) => pointed !== null && drag(event));
  const drop = () => {
    pointed = null;
    place(answer().at);
  };
  plot.addEventListener("pointerup", drop);
  plot.addEventListener("pointercancel", drop);
  plot.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== plot) return;
    event.preventDefault();
    const by = Math.max(-1, Math.min(1, (event.deltaY || event.deltaX) / 100));
    if (event.shiftKey || !event.deltaY) ask({ do: "pan", by: by * 0.2 });
    else ask({ do: "zoom", by: 2 ** by, around: timeAt(event) });
  }, { passive: false });
  plot.addEventListener("keydown", (event) => {
    const question = KEYS[event.key];
    if (!question || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    const by = event.shiftKey && event.key.startsWith("Arrow") ? question.by * 10 : question.by;
    wish(by === undefined ? question : { ...question, by });
  });
  const typed = new Set(); // fields with something new in them
  for (const [field, isLocal] of [[utc, false], [local, true]]) {
    const take = () => {
      if (typed.delete(field)) wish({ do: "type", text: field.value, local: isLocal });
    };
    field.addEventListener("input", () => typed.add(field));
    field.addEventListener("change", take);
    field.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter") take();
      if (event.key === "Escape" && typed.delete(field)) showAnswer();
    });
    field.setAttribute("aria-describedby", `${id}-reason`);
  }

  function showPicture() {
    const { svg: drawn, first, last, timelines, words, gaps, span: text } = picture();
    svg.innerHTML = drawn;
    span.textContent = text;
    plot.setAttribute("aria-valuemin", first ?? 0);
    plot.setAttribute("aria-valuemax", last ?? 0);
    plot.setAttribute("aria-disabled", String(first === null));
    summary.textContent = `Details: ${gaps || "no"} gap${gaps === 1 ? "" : "s"}`;
    list.replaceChildren(...words.map((sentence) => make("li", {}, sentence)));
    lanesLabel.hidden = timelines.length < 2;
    if (lanes.options.length !== timelines.length + 1) {
      lanes.replaceChildren(make("option", { value: "" }, "newest that has it"),
        ...timelines.map((number) => make("option", { value: String(number) }, String(number))));
    }
    place(pointed ?? answer().at);
  }
  function showAnswer() {
    const { at, reason: why, sides, utc: inUtc, local: inLocal, said: text } = answer();
    if (pointed === null) place(at);
    plot.setAttribute("aria-valuenow", at ?? picture().last ?? 0);
    plot.setAttribute("aria-valuetext", why ? `${text}; ${why}` : text);
    on.textContent = at !== null && picture().timelines.length > 1 ? `on timeline ${answer().timeline}` : "";
    line.classList.toggle("ot-refused", at === null && pointed !== null);
    if (!typed.has(utc)) utc.value = inUtc;
    if (!typed.has(local)) local.value = inLocal;
    const isRefused = at === null && why !== "";
    for (const field of [utc, local]) field.setAttribute("aria-invalid", String(isRefused));
    reason.classList.toggle("ot-is-refused", isRefused);
    if (said.textContent !== why) said.textContent = why;
    reason.replaceChildren(said, ...sides.map((side) => button(side.text, side.text,
      () => {
        plot.focus(); // the button goes
        wish({ do: "wish", at: side.at });
      })));
  }
  function showZone() {
    localLabel.hidden = ["", "UTC"].includes(model.get("_zone"));
    localName.textContent = model.get("_zone").replaceAll("_", " ");
  }

  showPicture();
  showAnswer();
  showZone();
  model.on("change:_picture", showPicture);
  model.on("change:_answer", showAnswer);
  model.on("change:_zone", showZone);
  model.on("change:_asked", answered);
  if (!model.get("_zone")) ask({ do: "zone", zone: Intl.DateTimeFormat().resolvedOptions().timeZone });
  const resized = new ResizeObserver(() => {
    const width = Math.round(plot.clientWidth);
    if (width > 0 && width !== Math.round(picture().right + 14)) ask({ do: "size", width });
  });
  resized.observe(plot);
  return () => {
    resized.disconnect();
    model.off("change:_picture", showPicture);
    model.off("change:_answer", showAnswer);
    model.off("change:_zone", showZone);
    model.off("change:_asked", answered);
  };
}

export default { render };
