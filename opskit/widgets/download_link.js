// The link of a download. Asks the server, by HEAD, what the archive is called and how large it is; where there is no
// such server, it says which command does the same.

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

// As opskit.reports.format.format_bytes.
function formatBytes(size) {
  let unit = 0;
  for (; size >= 999.5 && unit < UNITS.length - 1; unit += 1) size /= 1000;
  return `${size.toFixed(unit === 0 || size >= 99.95 ? 0 : 1)} ${UNITS[unit]}`;
}

// JupyterLab and Notebook 7 tell their server's base URL in their page; below JupyterHub it has the hub's prefix.
function serverRoot() {
  const told = document.getElementById("jupyter-config-data");
  if (told === null) return null;
  const base = JSON.parse(told.textContent).baseUrl || "/";
  return new URL(base.endsWith("/") ? base : `${base}/`, document.location.origin);
}

function nameIn(disposition) {
  return /filename="([^"]+)"/.exec(disposition || "")?.[1];
}

// Where the archive is, and what it is, the size in words, of an increment nothing: that is put together on the way.
// Throws a sentence, which is empty when there is no such server.
async function ask(cluster, backup, signal) {
  const root = serverRoot();
  if (root === null) throw "";
  const url = new URL(`opskit/download/${cluster}/${backup}`, root).href;
  let answer;
  try {
    answer = await fetch(url, { method: "HEAD", cache: "no-store", signal });
    if (answer.ok) {
      const name = nameIn(answer.headers.get("Content-Disposition"));
      if (name === undefined) throw "";
      const length = answer.headers.get("Content-Length");
      return { url, name, size: length === null ? "" : formatBytes(Number(length)) };
    }
    // HEAD has no body to say why.
    answer = await fetch(url, { cache: "no-store", signal, headers: { Range: "bytes=0-0" } });
  } catch (error) {
    throw error === "" || signal.aborted ? "" : "The Jupyter server does not answer.";
  }
  const isOurs = (answer.headers.get("Content-Type") || "").startsWith("text/plain");
  throw !answer.ok && isOurs ? await answer.text() : "";
}

// The server answers with a message and a hint, a line each; the message has no full stop.
function sentences(reason) {
  return reason.trim().split("\n").map((line) => line.charAt(0).toUpperCase() + line.slice(1))
    .map((line) => (/[.!?]$/.test(line) ? line : `${line}.`)).join(" ").replace(/^\.$/, "");
}

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function fill(link, verb, name, size) {
  link.replaceChildren(
    element("span", "opskit-download-verb", verb), " ",
    element("code", "opskit-download-name", name), " ",
    element("span", "opskit-download-size", size),
  );
}

function lead(link, url, name) {
  if (url === null) {
    link.removeAttribute("href");
    link.setAttribute("role", "link");
    link.setAttribute("aria-disabled", "true");
    return;
  }
  link.href = url;
  link.download = name;
  link.removeAttribute("role");
  link.removeAttribute("aria-disabled");
}

function render({ model, el }) {
  const link = element("a", "opskit-download");
  const trouble = element("p", "opskit-download-trouble");
  trouble.setAttribute("role", "status");
  el.append(link, trouble);
  let asking = new AbortController();

  function explain(cluster, backup, reason) {
    const command = element("code", "opskit-download-command", `opskit download ${cluster} ${backup}`);
    const told = sentences(reason) || "The browser cannot download from here.";
    trouble.replaceChildren(`${told} In a terminal where opskit is installed: `, command);
  }

  async function draw() {
    asking.abort();
    const { signal } = (asking = new AbortController());
    const [cluster, backup] = [model.get("cluster"), model.get("backup")];
    trouble.replaceChildren();
    link.hidden = false;
    lead(link, null);
    if (backup === "") {
      fill(link, "Download", "", "");
      return;
    }
    fill(link, "Download", `${cluster}-${backup}.tar.zst`, "…");
    try {
      const { url, name, size } = await ask(cluster, backup, signal);
      if (signal.aborted) return;
      fill(link, "Download", name, size);
      lead(link, url, name);
    } catch (reason) {
      if (signal.aborted) return;
      link.hidden = true;
      explain(cluster, backup, String(reason));
    }
  }

  model.on("change:cluster", draw);
  model.on("change:backup", draw);
  draw();
  return () => {
    asking.abort();
    model.off("change:cluster", draw);
    model.off("change:backup", draw);
  };
}

export default { render };
