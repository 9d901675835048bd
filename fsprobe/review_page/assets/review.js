// The review page. Everything shown is set as text, never as markup. An answer is kept in the
// browser until the server says that it is on its disk; each has a key, so that none counts twice.
// Each has a place of its own in the browser's storage, by that key: windows do not overwrite each
// other's, and a window that opens takes over what others left. That an answer is taken back is kept
// and sent likewise, for nobody knows whether an answer without a reply has arrived.
"use strict";

const $ = (id) => document.getElementById(id);
const BATCH = 20; // questions asked for at a time
const ROWS = 15; // tags of a clip that are shown
const HERE = `fsprobe ${location.pathname}`; // of this session's storage
const windowName = sessionStorage.getItem(HERE) || randomKey();
sessionStorage.setItem(HERE, windowName);

const PENDING = `${HERE} pending `; // begins the places of what is not saved yet
let pending = leftOver(); // oldest first; withdrawn: the answer of that key is taken back
let given = JSON.parse(sessionStorage.getItem(`${HERE} given`) || "[]"); // saved here, for undo
let queue = [];
let current = null;
let seen = null; // what the server says of the current clip
let sending = false;
let retry = 0; // the timer of the next try
let together = 100; // answers sent at a time; 1 after one of them was refused
let drawing = 0;
const skipped = new Set(); // not asked again before the page is opened anew

function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.error || response.statusText), { status: response.status });
  return answer;
}

function say(text) { $("message").textContent = text; }

async function attempt(work) {
  try { await work(); } catch (error) { say(String(error.message || error)); }
}

// Answers

// What no window has saved yet.
function leftOver() {
  const names = Object.keys(localStorage).filter((name) => name.startsWith(PENDING));
  const entries = names.map((name) => JSON.parse(localStorage.getItem(name))).filter(Boolean);
  return entries.sort((a, b) => a.at - b.at);
}

function placeOf(entry) { return PENDING + entry.key + (entry.withdrawn ? " withdrawn" : ""); }

function remember(entry) {
  pending.push(entry);
  localStorage.setItem(placeOf(entry), JSON.stringify(entry));
}

function forget(entries) {
  pending = pending.filter((entry) => !entries.includes(entry));
  for (const entry of entries) localStorage.removeItem(placeOf(entry));
}

function keep() {
  sessionStorage.setItem(`${HERE} given`, JSON.stringify(given.slice(-1000)));
  $("saved").textContent = pending.length ? `${pending.length} not saved yet, trying again` : "all saved";
  $("saved").className = pending.length ? "waiting" : "";
}

async function flush() {
  if (sending) return;
  sending = true;
  try {
    while (pending.length) {
      await send();
      together = 100;
      keep();
      await refresh();
    }
  } catch (error) {
    if (error.status === 422 && together === 1) { // it would block those after it
      const refused = pending[0];
      forget([refused]);
      say(`not kept: ${refused.clip}, ${refused.tag}, ${refused.value}: ${error.message}`);
    }
    together = error.status === 422 ? 1 : 100;
    keep();
    clearTimeout(retry);
    retry = setTimeout(flush, 1000);
  } finally {
    sending = false;
  }
}

// The first of what is pending, and with answers those that follow.
async function send() {
  const entry = ({ clip, tag, value, key }) => ({ clip, tag, value, key });
  if (pending[0].withdrawn) {
    const [back] = pending;
    await ask("withdraw", { entry: entry(back) });
    forget([back]);
    return;
  }
  const sent = pending.filter((one) => !one.withdrawn).slice(0, together);
  const answer = await ask("judge", { entries: sent.map(entry) });
  sent.forEach((one, i) => given.push({ id: answer.ids[i], clip: one.clip, tag: one.tag }));
  forget(sent);
}

function judge(clip, tag, value) {
  remember({ clip, tag, value, key: randomKey(), at: Date.now() });
  keep();
  flush();
}

async function answer(value) {
  if (!current) return;
  const asked = current;
  judge(asked.clip, asked.tag, value);
  say(`${asked.clip}, ${asked.tag}: ${value === "unknown" ? "don’t know" : value}`);
  await advance();
}

async function undo() {
  while (sending) await new Promise((done) => setTimeout(done, 20));
  let back = pending.findLast((entry) => !entry.withdrawn);
  if (back) {
    remember({ ...back, withdrawn: true, at: Date.now() });
    forget([back]);
    await flush();
  } else if (given.length) {
    while (given.length && !back) { // one that another window took back is passed over
      back = await ask("withdraw", { id: given.at(-1).id });
      given.pop();
    }
  } else {
    back = await ask("withdraw", {});
  }
  keep();
  if (!back) return say("nothing to undo");
  if (current) queue.unshift(current);
  await show({ clip: back.clip, tag: back.tag, score: null, reason: "taken back" });
  say(`taken back: ${back.clip}, ${back.tag}`);
  await refresh();
}

// Questions

async function fill() {
  const query = new URLSearchParams({
    tag: $("tag").value, strategy: $("strategy").value, window: windowName,
    count: Math.min(200, BATCH + pending.length + skipped.size),
  });
  const taken = new Set([...queue, ...pending.filter((e) => !e.withdrawn), ...(current ? [current] : [])].map(nameOf));
  const found = await ask(`questions?${query}`);
  queue.push(...found.filter((one) => !taken.has(nameOf(one)) && !skipped.has(nameOf(one))));
}

function nameOf(one) { return JSON.stringify([one.clip, one.tag]); }

async function skip() {
  if (current) skipped.add(nameOf(current));
  await advance();
}

async function advance() {
  current = null;
  if (!queue.length) {
    try { await fill(); }
    catch (error) { say(`${error.message}; trying again`); setTimeout(() => current || advance(), 1000); return; }
  }
  if (current) return; // a clip was opened meanwhile
  if (queue.length) return show(queue.shift());
  $("question").textContent = $("tag").options.length > 1 ? "Nothing is left to ask here" : "Add a tag to begin";
  $("reason").textContent = "";
}

// What comes back late, after another clip was asked about, is not shown.
async function show(one) {
  current = one;
  if (seen && seen.clip !== one.clip) $("player").pause();
  $("question").textContent = `Is it “${one.tag}”?`;
  $("reason").textContent = one.reason + (one.score === null ? "" : `; probability ${one.score.toFixed(2)}`);
  let found;
  try { found = await ask(`clip?id=${encodeURIComponent(one.clip)}`); }
  catch (error) {
    if (current !== one) return;
    say(`${error.message}; trying again`);
    setTimeout(() => current === one && show(one), 1000);
    return;
  }
  if (current !== one) return;
  seen = found;
  $("file").textContent = seen.sound ? `${one.clip} · ${seen.sound.path}` : `${one.clip} has no audio file`;
  listen(seen);
  table();
}

function listen(clip) {
  const player = $("player");
  player.hidden = $("waveform").hidden = !clip.sound;
  if (!clip.sound) { player.removeAttribute("src"); return; }
  const { start, duration } = clip.sound;
  const begin = start || 0;
  const part = start === null && duration === null ? "" : `#t=${begin}${duration ? `,${begin + duration}` : ""}`;
  const url = `audio?id=${encodeURIComponent(clip.clip)}`;
  player.src = url + part;
  if ($("autoplay").checked) player.play().catch(() => {}); // browsers want a first click
  draw(url, begin, duration);
}

async function draw(url, start, duration) {
  const number = ++drawing;
  const canvas = $("waveform");
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  try {
    const response = await fetch(url);
    if (!response.ok) throw new Error((await response.json()).error);
    if (Number(response.headers.get("content-length")) > 30e6) return; // too long to decode here
    const bytes = await response.arrayBuffer();
    const sound = await new OfflineAudioContext(1, 1, 22050).decodeAudioData(bytes);
    if (number !== drawing) return;
    const samples = sound.getChannelData(0);
    const first = Math.floor(start * sound.sampleRate);
    const last = duration ? Math.min(samples.length, first + duration * sound.sampleRate) : samples.length;
    const step = (last - first) / canvas.width;
    pen.fillStyle = "#0b5394";
    for (let x = 0; x < canvas.width; x++) {
      let low = 0, high = 0;
      for (let i = Math.floor(first + x * step); i < first + (x + 1) * step; i++) {
        low = Math.min(low, samples[i]); high = Math.max(high, samples[i]);
      }
      const middle = canvas.height / 2;
      pen.fillRect(x, middle - high * middle, 1, Math.max(1, (high - low) * middle));
    }
    canvas.dataset.drawn = url;
  } catch (error) {
    if (number === drawing) say(`no picture of this clip: ${error.message}`);
  }
}

// Tables

function cell(row, text, kind = "td") {
  const made = document.createElement(kind);
  made.textContent = text;
  if (kind === "th") made.scope = "row";
  row.append(made);
  return made;
}

function table() {
  const latest = new Map(pending.filter((e) => e.clip === seen.clip && !e.withdrawn).map((e) => [e.tag, e.value]));
  const rows = seen.scores.map((one) => ({ ...one, value: latest.get(one.tag) || one.value }));
  const rank = (one) => (isAsked(one) ? 3 : one.value ? 2 : (one.score ?? 0));
  const shown = rows.sort((a, b) => rank(b) - rank(a)).slice(0, ROWS);
  $("scores").replaceChildren(...shown.map(scoreRow));
  $("more").textContent = rows.length > ROWS ? `and ${rows.length - ROWS} tags more` : "";
}

function isAsked(one) { return current && seen.clip === current.clip && one.tag === current.tag; }

function scoreRow(one) {
  const row = document.createElement("tr");
  row.className = isAsked(one) ? "asked" : "";
  cell(row, one.tag, "th");
  const score = cell(row, one.score === null ? "–" : `${one.score.toFixed(2)} `);
  score.className = "number";
  if (one.score !== null) {
    const meter = document.createElement("meter");
    meter.value = one.score;
    meter.setAttribute("aria-label", `probability of ${one.tag}`);
    score.append(meter);
  }
  const change = one.score !== null && one.before !== null ? one.score - one.before : null;
  cell(row, change === null ? "–" : `${change < 0 ? "−" : "+"}${Math.abs(change).toFixed(2)}`).className = "number";
  cell(row, { yes: "yes", no: "no", unknown: "don’t know" }[one.value] || "–");
  const answers = cell(row, "");
  for (const value of ["yes", "no"]) {
    const button = document.createElement("button");
    button.textContent = value;
    button.setAttribute("aria-label", `${one.tag}: ${value}`);
    button.setAttribute("aria-pressed", String(one.value === value));
    button.addEventListener("click", () => {
      judge(seen.clip, one.tag, value);
      if (isAsked(one)) advance(); else table();
    });
    answers.append(button, " ");
  }
  return row;
}

async function refresh() {
  const state = await ask("state");
  $("progress").textContent = `${state.judged} judgements on ${state.clips_judged} of ${state.clips} clips, ` +
    `tags: ${state.tags.length}, fits: ${state.fits}`;
  const rows = state.tags.map((one) => {
    const row = document.createElement("tr");
    cell(row, one.tag, "th");
    for (const name of ["yes", "no", "unknown"]) cell(row, one[name]).className = "number";
    cell(row, one.verdict);
    return row;
  });
  $("tags").replaceChildren(...rows);
  options($("tag"), [["", "all tags, in turn"], ...state.tags.map((one) => [one.tag, one.tag])]);
  options($("strategy"), state.strategies.map((name) => [name, name]));
}

function options(select, wanted) {
  if (select.options.length === wanted.length) return;
  const chosen = select.value;
  select.replaceChildren(...wanted.map(([value, text]) => new Option(text, value)));
  if (wanted.some(([value]) => value === chosen)) select.value = chosen;
}

async function restart() {
  queue = [];
  await advance();
}

async function fit() {
  say("fitting …");
  $("fit").disabled = true;
  try {
    const begun = performance.now();
    const verdicts = await ask("fit", {});
    await refresh();
    if (current) await show(current);
    queue = [];
    say(`tags with a head: ${Object.keys(verdicts).length}; fitted in ${((performance.now() - begun) / 1000).toFixed(1)} s`);
  } finally {
    $("fit").disabled = false;
  }
}

async function find(query) {
  const hits = await ask(`find?${new URLSearchParams(query)}`);
  $("found").replaceChildren(...hits.map((hit) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.textContent = hit.score === null ? hit.clip : `${hit.clip} (${hit.score.toFixed(2)})`;
    button.addEventListener("click", () => attempt(() => open(hit.clip)));
    item.append(button);
    return item;
  }));
  if (!hits.length) say("no clip found");
}

async function open(clip) {
  const tag = $("tag").value || (current ? current.tag : ($("tag").options[1] || {}).value);
  if (!tag) return say("add a tag first");
  if (current) queue.unshift(current);
  await show({ clip, tag, score: null, reason: "found by you" });
  $("question").focus();
}

// Controls

function toggle() { const player = $("player"); if (player.paused) player.play(); else player.pause(); }

const KEYS = {
  y: () => answer("yes"), n: () => answer("no"), d: () => answer("unknown"), u: undo, s: skip, p: toggle, f: fit,
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  if (event.target.closest("input:not([type=checkbox]), select, textarea")) return;
  const work = KEYS[event.key.toLowerCase()];
  if (work) { event.preventDefault(); attempt(async () => work()); }
});
for (const value of ["yes", "no", "unknown"]) $(value).addEventListener("click", () => attempt(() => answer(value)));
for (const [id, work] of [["undo", undo], ["skip", skip], ["play", toggle], ["fit", fit]])
  $(id).addEventListener("click", () => attempt(async () => work()));
for (const select of [$("tag"), $("strategy")]) {
  let pointed = false; // chosen by mouse: the next key is an answer again, not a choice
  select.addEventListener("pointerdown", () => { pointed = true; });
  select.addEventListener("keydown", () => { pointed = false; });
  select.addEventListener("change", () => {
    if (pointed) select.blur();
    attempt(restart);
  });
}
$("new_tag").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    const name = $("name").value.trim();
    await ask("tag", { tag: name });
    $("name").value = "";
    await refresh();
    $("tag").value = name;
    await restart();
  });
});
$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(() => find({ text: $("text").value }));
});
$("like").addEventListener("click", () => attempt(() => (current ? find({ like: current.clip }) : say("no clip"))));
$("waveform").addEventListener("click", (event) => {
  const player = $("player");
  if (!seen || !seen.sound) return;
  const length = seen.sound.duration || player.duration - (seen.sound.start || 0);
  player.currentTime = (seen.sound.start || 0) + (event.offsetX / event.target.clientWidth) * length;
});

async function begin() {
  keep();
  try { await refresh(); } catch (error) { say("the server does not answer; trying again"); setTimeout(begin, 1000); return; }
  flush();
  await advance();
}
begin();
