// The screens of the door and the room.  What happens on the wire is in session.js and room.js;
// every word is in texts.*.js.  Text of others becomes text nodes only, cleaned and bounded.

import { Fault, Session } from "./session.js";
import { Room, find, spaces } from "./room.js";

/** @typedef {{id: string, nick: string, role: string, affiliation: string, hand: boolean,
 *   isSelf: boolean, reconnecting: boolean}} Person */
/** @typedef {{id: string, nick: string, text: string, at: Date, mine: boolean,
 *   delayed: boolean}} Message */
/** @typedef {{jid: string, password: string, space: string, nick: string, reentry: string,
 *   title: string, callId?: string}} Pass */
/** @typedef {{jid: string, title: string, callId: string, path: string, secured: boolean}} Place */
/** @typedef {Record<string, string | boolean | undefined | ((event: any) => void)>} Attributes */

const page = document.documentElement;
/** @type {Record<string, any>} */
const texts = (await import(`./texts.${page.lang}.js`)).default;
const plural = new Intl.PluralRules(page.lang);
const collator = new Intl.Collator(page.lang, { numeric: true });
const clock = new Intl.DateTimeFormat(page.lang, { hour: "numeric", minute: "2-digit" });
const DOMAIN = page.dataset.domain ?? "";
const SITE = page.dataset.title ?? "";

const MOST_ROWS = 100; // people shown at once
const MOST_MESSAGES = 200; // messages kept on the page
const MOST_NAME = 64; // characters of a name that are shown
const MOST_TEXT = 8000; // of a message
const MOST_LINES = 60; // of a message
const SEARCH_FROM = 12; // people
const BANNER_AFTER = 1000; // ms without a connection
const SCREEN_AFTER = 200; // ms: what is done sooner needs no screen of its own
const FIRST_WORD = 400; // ms that announcements are gathered
const WORD_EVERY = 4000; // ms between two of them
const ANEW_EVERY = 3000; // ms: who is sent out again sooner is not let in anew by itself
const ASKS_ANEW = new Set(["forbidden", "reentry-over", "not-authorized", "registration-required"]);
const ANSWER_WITHIN = 20000; // ms for POST /join

// words

/** @param {string} key @param {Record<string, any>} [values] */
function say(key, values = {}) {
  let text = texts[key] ?? key;
  if (typeof text === "object") text = text[plural.select(values.count)] ?? text.other;
  return String(text).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

/** What went wrong, for the person in front of it. @param {any} fault @param {string} [word] */
function wordsOf(fault, word = fault?.word) {
  return texts.faults[word] ?? say("unknown", { word: plain(word || fault?.name || "-", 60) });
}

/** Others' text in one line: no controls, no direction of its own, not too long.
 *  @param {unknown} text */
function plain(text, most = MOST_NAME) {
  const line = String(text ?? "").slice(0, 4 * most).replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " ")
    .replace(/[\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069]/g, "\uFFFD");
  const characters = Array.from(line.trim());
  return characters.length > most ? `${characters.slice(0, most - 1).join("")}…` : characters.join("");
}

/** The same within a sentence that is no element. @param {unknown} text */
const isolated = (text, most = MOST_NAME) => `\u2068${plain(text, most)}\u2069`;

// elements

/** @template {keyof HTMLElementTagNameMap} T @param {T} name @param {Attributes} attributes
 *  @param {...(Node | string | null | undefined | false)} children
 *  @returns {HTMLElementTagNameMap[T]} */
function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value === true) node.setAttribute(key, "");
    else if (value || value === "") node.setAttribute(key, value);
  }
  node.append(.../** @type {(Node | string)[]} */ (children.filter((child) => child)));
  return node;
}

/** @param {string} id @returns {HTMLElement} */
const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
/** @param {unknown} text */
const named = (text, most = MOST_NAME) => make("bdi", {}, plain(text, most));
/** @param {string} label @param {(event: any) => void} click @param {Attributes} [more] */
const button = (label, click, more = {}) => make("button", { type: "button", click, ...more }, label);

/** A sentence with others' names in it, each apart. @param {string} key
 *  @param {Record<string, Node | string>} values */
function sentence(key, values) {
  return String(texts[key]).split(/(\{\w+\})/).map((part) => values[part.slice(1, -1)] ?? part);
}

/** @param {string} name @param {string} label @param {string} hint @param {Attributes} more */
function field(name, label, hint, more) {
  const described = hint && `${name}-hint`;
  return make("div", { class: "field" },
    make("label", { for: name }, label),
    hint && make("p", { class: "hint", id: described }, hint),
    make("input", { id: name, name, type: "text", autocapitalize: "none", spellcheck: "false",
      "aria-describedby": described, ...more }),
    make("p", { class: "wrong", id: `${name}-wrong`, hidden: true }));
}

/** @param {HTMLFormElement} form @param {string} name @returns {HTMLInputElement} */
const input = (form, name) => /** @type {any} */ (form.elements.namedItem(name));

/** Marks what is not filled in; whether all is. @param {HTMLFormElement} form
 *  @param {Record<string, (value: string) => string>} checks */
function checked(form, checks) {
  /** @type {HTMLInputElement | null} */
  let first = null;
  for (const [name, check] of Object.entries(checks)) {
    const here = input(form, name), problem = check(here.value.trim());
    const note = byId(`${name}-wrong`);
    note.hidden = !problem;
    note.textContent = problem;
    here.removeAttribute("aria-invalid");
    if (problem) here.setAttribute("aria-invalid", "true");
    here.setAttribute("aria-describedby", `${byId(`${name}-hint`)?.id ?? ""} ${problem && note.id}`.trim());
    if (problem) first ??= here;
  }
  first?.focus();
  return !first;
}

/** @param {string} value */
const filled = (value) => (value ? "" : say("required"));
/** @param {string} value */
const digits = (value) =>
  filled(value) || (/^[\d\s-]+$/.test(value) ? "" : say("digits"));

// What a browser keeps: the name, and for this tab the token that leads back into the meeting.
// Storage may be switched off, and then nothing is kept, which is what its owner wants.

/** @param {"localStorage" | "sessionStorage"} where @param {string} key */
function kept(where, key) {
  try {
    return window[where].getItem(key) ?? "";
  } catch {
    return "";
  }
}

/** @param {"localStorage" | "sessionStorage"} where @param {string} key @param {string} value */
function keep(where, key, value) {
  try {
    if (value) window[where].setItem(key, value);
    else window[where].removeItem(key);
  } catch {
    return;
  }
}

// what is going on

/** @type {Session | null} */
let session = null;
/** The address that signed in, or nothing for a guest. */
let account = "";
/** @type {{room: Room, place: Place, end: () => void} | null} */
let meeting = null;
/** How a guest asked to be let in, for the case that he has to ask anew.
 *  @type {Record<string, string> | null} */
let ticket = null;
/** Where somebody was before he had to enter anew. @type {Room | undefined} */
let earlier;
let anewAt = -ANEW_EVERY;
/** Where somebody was who has to sign in again, since the page was reloaded. @type {Place | null} */
let wanted = null;
/** The join or sign-in that is under way: there is one at most. @type {Attempt | null} */
let attempt = null;

// announcements

class Announcer {
  /** Says politely, and not too often, what is seen on the page: however many join at once.
   *  @param {HTMLElement} node */
  constructor(node) {
    this.node = node;
    /** @type {Record<string, {nick: string, text: string}[]>} */
    this.waiting = {};
    this.timer = 0;
    this.last = -Infinity;
  }

  /** @param {"Joined" | "Left" | "Hands" | "Says"} what @param {string} nick */
  tell(what, nick, text = "") {
    (this.waiting[what] ??= []).push({ nick, text });
    this.timer ||= setTimeout(() => this.flush(),
      Math.max(FIRST_WORD, this.last + WORD_EVERY - performance.now()));
  }

  /** @param {string} text */
  now(text) {
    // The same words again are news too; screen readers hear only of a change.
    this.node.textContent = this.node.textContent === text ? `${text}\u00A0` : text;
  }

  clear() {
    this.waiting = {};
    clearTimeout(this.timer);
    this.timer = 0;
  }

  flush() {
    const said = Object.entries(this.waiting).map(([what, all]) => {
      const [one] = all;
      if (all.length > 1)
        return say({ Joined: "peopleJoined", Left: "peopleLeft", Hands: "peopleHands",
          Says: "messagesCount" }[what] ?? what, { count: all.length });
      return say({ Joined: "personJoined", Left: "personLeft", Hands: "personHand",
        Says: "personSays" }[what] ?? what,
      { name: isolated(one.nick), text: isolated(one.text, 300) });
    });
    this.clear();
    this.last = performance.now();
    this.now(said.join(". "));
  }
}
const announcer = new Announcer(byId("announcer"));

/** Counts down to the next try; the words are hidden from screen readers, which would repeat them.
 *  @param {HTMLElement} node @param {number | null} time @returns {() => void} ends it */
function countdown(node, time) {
  const tick = () => {
    const count = Math.ceil(((time ?? 0) - Date.now()) / 1000);
    node.textContent = count > 0 ? say("nextTry", { count }) : say("tryingNow");
  };
  tick();
  const timer = setInterval(tick, 500);
  return () => clearInterval(timer);
}

// the banner

const banner = {
  node: byId("banner"),
  timer: 0,
  stop: () => {},

  /** @param {any} fault @param {number | null} nextTry */
  away(fault, nextTry) {
    this.stop();
    this.fault = fault;
    const words = make("p", { role: "status" }), next = make("p", { "aria-hidden": "true" });
    this.stop = countdown(next, nextTry);
    const again = button(say("tryNow"), () => session?.retry());
    const show = () => {
      this.timer = 0;
      this.node.hidden = false;
      words.textContent = wordsOf(fault, fault?.word ?? "offline");
      this.node.replaceChildren(make("div", {}, words, next), again);
    };
    if (!this.node.hidden) {
      const old = this.node.querySelector("p");
      if (old?.textContent === wordsOf(fault, fault?.word ?? "offline")) {
        this.node.querySelector("p + p")?.replaceWith(next);
      } else show();
      return;
    }
    const since = this.since ||= performance.now();
    clearTimeout(this.timer);
    this.timer = setTimeout(show, Math.max(0, since + BANNER_AFTER - performance.now()));
  },

  /** @param {boolean} [told] whether the person hears of it */
  clear(told = false) {
    this.stop();
    clearTimeout(this.timer);
    this.since = this.timer = 0;
    this.fault = null;
    if (told && !this.node.hidden) announcer.now(say("back"));
    this.node.hidden = true;
  },
  since: 0,
  /** @type {any} */
  fault: null,
};

// screens

/** Replaces what is shown, and puts the focus where a reader begins.
 *  @param {string} name @param {string} title @param {(Node | string | false | null)[]} content
 *  @param {string} [focus] selector of what gets the focus in place of the heading */
function show(name, title, content, focus) {
  document.body.dataset.screen = name;
  document.title = title === SITE ? SITE : `${title} - ${SITE}`;
  const main = byId("content");
  main.replaceChildren(...(/** @type {Node[]} */ (content.filter((one) => one))));
  const first = /** @type {HTMLElement | null} */ (main.querySelector(focus ?? "h1"));
  if (first?.localName === "h1") first.tabIndex = -1;
  first?.focus({ preventScroll: true });
  scrollTo(0, 0);
}

/** @param {string} words */
const alertBox = (words) => words ? make("p", { class: "note bad", role: "alert" }, words) : "";

/** @returns {{callId: string, secret: string, path: string}} */
function asked() {
  const [, kind, value = ""] = /^\/(meeting|m)\/([^/]+)/.exec(location.pathname) ?? [];
  let said = value;
  try {
    said = decodeURIComponent(value);
  } catch { // it was mistyped, and will be refused as it is
  }
  return { callId: kind === "meeting" ? said : "", secret: kind === "m" ? said : "",
    path: location.pathname };
}

/** A form whose button shows that it was pressed.
 *  @param {Attributes} attributes @param {(form: HTMLFormElement) => void} send
 *  @param {...(Node | string | null | false)} content */
function formOf(attributes, send, ...content) {
  return make("form", {
    novalidate: true,
    ...attributes,
    submit: (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      send(/** @type {HTMLFormElement} */ (event.target));
    },
  }, ...content);
}

const nameField = () => field("name", say("name"), say("nameHint"),
  { value: kept("localStorage", "name"), autocomplete: "name", maxlength: "60" });
const passcodeField = () => field("passcode", say("passcode"), say("passcodeHint"),
  { inputmode: "numeric", autocomplete: "off", maxlength: "32" });

/** @param {{wrong?: string}} [told] */
function joinForm(told = {}) {
  const { callId, secret } = asked();
  const ours = Boolean(account), fixed = Boolean(callId || secret);
  return formOf({ class: "card", "aria-labelledby": "join-title" }, submitJoin,
    fixed ? null : make("h2", { id: "join-title" }, say(ours ? "otherMeeting" : "joinTitle")),
    alertBox(told.wrong ?? ""),
    secret ? null : field("callId", say("callId"), say("callIdHint"),
      { value: callId, inputmode: "numeric", autocomplete: "off", maxlength: "40" }),
    secret ? null : passcodeField(),
    nameField(),
    make("button", { type: "submit" }, say("join")));
}

/** @param {HTMLFormElement} form */
function submitJoin(form) {
  const { secret } = asked();
  if (!checked(form, secret ? { name: filled } : { callId: digits, name: filled })) return;
  const name = input(form, "name").value.trim();
  keep("localStorage", "name", name);
  const callId = secret ? "" : input(form, "callId").value.replace(/\D/g, "");
  const passcode = secret ? "" : input(form, "passcode").value.trim();
  if (account && !secret) member(callId, name, passcode);
  else guest(secret ? { secret, name } : { callId, passcode, name }, Boolean(passcode));
}

/** @param {{wrong?: string, address?: string}} [told] */
function signInForm(told = {}) {
  return formOf({ class: "card", "aria-labelledby": "sign-title" }, submitSignIn,
    make("h2", { id: "sign-title" }, say("signInTitle")),
    make("p", { class: "hint" }, say("signInHint")),
    alertBox(told.wrong ?? ""),
    field("address", say("address"), say("addressHint", { domain: DOMAIN }),
      { autocomplete: "username", value: told.address ?? "", maxlength: "1000" }),
    field("password", say("password"), "",
      { type: "password", autocomplete: "current-password", maxlength: "1000" }),
    make("button", { type: "submit", class: "second" }, say("signIn")));
}

/** @param {HTMLFormElement} form */
function submitSignIn(form) {
  if (!checked(form, { address: filled, password: filled })) return;
  const typed = input(form, "address").value.trim();
  signIn(typed.includes("@") ? typed : `${typed}@${DOMAIN}`, input(form, "password").value);
}

/** @param {{join?: string, sign?: string, address?: string}} [told] what went wrong before */
function home(told = {}) {
  show("home", say("home"), [
    make("h1", {}, say("home")),
    make("div", { class: "pair" }, joinForm({ wrong: told.join }),
      signInForm({ wrong: told.sign, address: told.address })),
  ], told.join || told.sign ? "[role=alert]" : undefined);
}

/** @param {{join?: string, sign?: string, address?: string}} [told] */
function joinScreen(told = {}) {
  const { secret } = asked(), signs = told.sign !== undefined || told.address !== undefined;
  const title = say(secret ? "joinLink" : "joinThis");
  const swap = (/** @type {boolean} */ sign) => joinScreen(sign ? { sign: "" } : {});
  show("join", title, [
    make("h1", { id: "join-title" }, title),
    secret && make("p", { class: "lead" }, say("joinLinkHint")),
    account && make("p", { class: "quiet" }, ...sentence("signedInAs", { name: named(account) })),
    signs ? signInForm({ wrong: told.sign, address: told.address }) : joinForm({ wrong: told.join }),
    !account && !secret && make("p", { class: "swap" },
      button(say(signs ? "haveInvitation" : "haveAccount"), () => swap(!signs), { class: "plain" })),
  ], told.join || told.sign ? "[role=alert]" : undefined);
}

/** The screen for the address, as if it had just been opened.
 *  @param {{join?: string, sign?: string, address?: string}} [told] */
function start(told = {}) {
  wanted = null;
  const { callId, secret } = asked();
  const state = { screen: callId || secret ? "join" : account ? "spaces" : "home" };
  history.replaceState(state, "", location.pathname);
  if (state.screen === "join") joinScreen(told);
  else if (state.screen === "spaces") listSpaces(told.join);
  else home(told);
}

// joining

class Attempt {
  /** What is being waited for, with a Cancel that cancels.
   *  @param {string} title @param {(keyof typeof texts.steps)[]} steps @param {() => void} back */
  constructor(title, steps, back) {
    this.steps = steps;
    this.step = steps[0];
    this.title = title;
    this.back = back;
    this.abort = new AbortController();
    /** @type {Session | null} */
    this.session = null;
    this.stop = () => {};
    this.began = performance.now();
    this.list = make("ol", { class: "progress" });
    this.trouble = make("div", { class: "note bad", hidden: true });
    this.busy(true);
    this.timer = setTimeout(() => this.show(), SCREEN_AFTER);
  }

  get cancelled() {
    return this.abort.signal.aborted;
  }

  /** @param {boolean} is */
  busy(is) {
    for (const one of document.querySelectorAll("form button"))
      one.toggleAttribute("disabled", is);
  }

  show() {
    clearTimeout(this.timer);
    this.draw();
    show("joining", this.title, [
      make("div", { class: "card" }, make("h1", {}, this.title), this.list, this.trouble,
        button(say("cancel"), () => this.cancel(), { class: "second", id: "cancel" })),
    ], "#cancel");
    this.shown = true;
  }

  /** @param {string} step */
  at(step) {
    this.step = step;
    this.stop();
    this.trouble.hidden = true;
    this.draw();
  }

  draw() {
    const here = this.steps.indexOf(this.step);
    this.list.replaceChildren(...this.steps.map((step, number) => {
      const state = number < here ? "done" : number === here ? "underWay" : "notYet";
      return make("li", { class: state, "aria-current": number === here && "step" },
        texts.steps[step], make("span", { class: "away" }, ` (${say(state)})`));
    }));
  }

  /** @param {any} fault @param {number | null} nextTry */
  wait(fault, nextTry) {
    this.stop();
    const words = wordsOf(fault, fault?.word ?? "offline");
    const next = make("p", { "aria-hidden": "true" });
    const old = this.trouble.querySelector("p");
    if (this.trouble.hidden || old?.textContent !== words)
      this.trouble.replaceChildren(make("p", { role: "status" }, words), next);
    else this.trouble.querySelector("p + p")?.replaceWith(next);
    this.stop = countdown(next, nextTry);
    this.trouble.hidden = false;
    if (!this.shown) this.show();
  }

  cancel() {
    this.drop();
    this.back();
  }

  drop() {
    this.abort.abort();
    this.over();
    if (this.session !== session) this.session?.close();
  }

  over() {
    clearTimeout(this.timer);
    this.stop();
    this.busy(false);
    if (attempt === this) attempt = null;
  }
}

/** @param {any} problem @param {AbortSignal} signal */
const isOver = (problem, signal) => signal.aborted || problem?.word === "cancelled";

/** Asks to be let in, once. @param {Record<string, string>} body @param {AbortSignal} [cancelled]
 *  @returns {Promise<Pass>} */
async function post(body, cancelled) {
  const abort = new AbortController(), end = () => abort.abort();
  const timer = setTimeout(end, ANSWER_WITHIN);
  cancelled?.addEventListener("abort", end);
  try {
    const answer = await fetch("/join", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal: abort.signal,
    });
    const told = await answer.json().catch(() => ({}));
    if (answer.ok) return told;
    const word = String(told.reason ?? "offline");
    const passes = word !== "door-closed" && (answer.status === 429 || answer.status >= 500);
    throw new Fault(word, { seconds: Number(told.seconds) || 0, over: !passes });
  } catch (problem) {
    if (problem instanceof Fault) throw problem;
    throw new Fault(abort.signal.aborted ? "timeout" : "offline");
  } finally {
    clearTimeout(timer);
    cancelled?.removeEventListener("abort", end);
  }
}

/** A session, once it is there.  What passes by itself is waited for.
 *  @param {{jid?: string, password?: string, credentials?: () => Promise<Pass>}} login
 *  @param {Attempt} at @returns {Promise<Session>} */
function connected(login, at) {
  const url = `${location.protocol === "http:" ? "ws" : "wss"}://${location.host}/xmpp-websocket`;
  const domain = login.jid ? login.jid.slice(login.jid.lastIndexOf("@") + 1) : DOMAIN;
  const made = new Session({ url, domain, ...login });
  at.session = made;
  return new Promise((resolve, reject) => {
    const followed = (/** @type {any} */ { detail: { state, fault, nextTry } }) => {
      if (state === "waiting") at.wait(fault, nextTry);
      if (state !== "online" && state !== "over") return;
      made.removeEventListener("state", followed);
      if (state === "online" && !at.cancelled) resolve(made);
      else reject(fault ?? new Fault("cancelled"));
    };
    made.addEventListener("state", followed);
    made.start();
  });
}

/** Follows a session that stays. @param {Session} ours */
function adopt(ours) {
  session = ours;
  ours.addEventListener("state", (/** @type {any} */ { detail: { state, fault, nextTry, resumed } }) => {
    if (session !== ours) return;
    if (state === "online") {
      if (!meeting || resumed) banner.clear(true); // else the room is entered again first
    } else if (state !== "over") banner.away(fault ?? banner.fault, nextTry);
    else {
      banner.clear();
      session = null;
      if (meeting) out(fault);
      else {
        account = "";
        start({ sign: wordsOf(fault, fault?.word ?? "closed") });
      }
    }
  });
}

function disconnect() {
  const old = session;
  session = null;
  account = "";
  banner.clear();
  old?.close();
}

/** Somebody without an account, by call ID, link, or the token of before a reload.
 *  @param {Record<string, string>} body @param {boolean} secured */
async function guest(body, secured) {
  if (attempt) return;
  const { path } = asked(), { reentry } = body;
  const at = new Attempt(say("joining"), ["ask", "connect", "enter"], () => {
    if (reentry) forget();
    start();
  });
  attempt = at;
  const name = kept("localStorage", "name"), from = asked();
  const anew = !reentry ? body : from.secret ? { secret: from.secret, name }
    : { callId: from.callId, passcode: "", name };
  /** @type {Pass | undefined} */
  let pass;
  // Asked while the connection is made; and again, by the token, if the session cannot be resumed.
  const credentials = async () => {
    const token = reentry || pass ? kept("sessionStorage", "reentry") : "";
    const given = await post(token ? { reentry: token } : body, at.abort.signal)
      .catch((fault) => {
        if (!token || fault.word !== "reentry-over") throw fault;
        return post(anew, at.abort.signal);
      });
    pass = given;
    performance.mark("pass");
    keep("sessionStorage", "reentry", given.reentry);
    if (attempt === at) at.at("connect");
    return given;
  };
  try {
    const ours = await connected({ credentials }, at);
    if (!pass) throw new Fault("undefined-condition");
    performance.mark("online");
    const callId = pass.callId || body.callId || asked().callId;
    const link = callId ? `/meeting/${callId}` : path;
    await enter(ours, { jid: pass.space, title: pass.title, callId, path: link, secured },
      pass.nick, "", at, asked().secret ? path : link);
    ticket = anew;
  } catch (/** @type {any} */ problem) {
    at.session?.close();
    at.over();
    if (isOver(problem, at.abort.signal)) return;
    forget();
    start({ join: wordsOf(problem) });
  }
}

const forget = () => keep("sessionStorage", "reentry", "");

/** @param {string} jid @param {string} password */
async function signIn(jid, password) {
  if (attempt) return;
  const { callId } = asked(), place = wanted;
  const at = new Attempt(say("signingIn"), ["connect", "list"], () => start({ address: jid, sign: "" }));
  attempt = at;
  try {
    const ours = await connected({ jid, password }, at);
    account = jid;
    adopt(ours);
    at.over();
    wanted = null;
    if (place) member(place, kept("localStorage", "name") || jid.split("@")[0], "");
    else if (callId) start();
    else {
      history.replaceState({ screen: "spaces" }, "", "/");
      await listSpaces();
    }
  } catch (/** @type {any} */ problem) {
    at.session?.close();
    at.over();
    if (!isOver(problem, at.abort.signal)) start({ sign: wordsOf(problem), address: jid });
  }
}

/** @param {string} [wrong] */
async function listSpaces(wrong) {
  const list = make("ul", { class: "spaces" });
  const note = make("div", {}, make("p", { class: "empty" }, texts.steps.list));
  show("spaces", say("spacesTitle"), [
    make("div", { class: "headline" }, make("h1", {}, say("spacesTitle")),
      button(say("signOut"), () => {
        disconnect();
        start();
      }, { class: "second" })),
    make("p", { class: "quiet" }, ...sentence("signedInAs", { name: named(account, 200) })),
    make("div", { class: "pair" }, make("div", {}, note, list), joinForm({ wrong })),
  ], wrong ? "[role=alert]" : undefined);
  try {
    const found = session ? await spaces(session) : [];
    found.sort((a, b) => collator.compare(a.name, b.name));
    list.append(...found.map(({ jid, name, callId }) => {
      const place = { jid, title: name, callId, secured: false,
        path: callId ? `/meeting/${callId}` : "/" };
      return make("li", { class: "card" }, make("div", {}, make("h2", {}, named(name, 200)),
        callId && make("p", { class: "quiet" }, say("spaceId", { callId }))),
      button(say("join"), () => {
        const nick = kept("localStorage", "name") || account.split("@")[0];
        member(place, input(/** @type {any} */ (document.forms[0]), "name").value.trim() || nick, "");
      }, { "aria-label": say("joinSpace", { name: isolated(name) }) }));
    }));
    note.replaceChildren(found.length ? "" : make("p", { class: "empty" }, say("noSpaces")));
  } catch (problem) {
    note.replaceChildren(alertBox(wordsOf(problem)));
  }
}

/** Somebody who is signed in. @param {Place | string} where or the call ID of the place
 *  @param {string} nick @param {string} passcode */
async function member(where, nick, passcode) {
  if (attempt || !session) return;
  const at = new Attempt(say("joining"), ["enter"], () => start());
  attempt = at;
  try {
    let place = where;
    if (typeof place === "string") {
      const { jid, name } = await find(session, place);
      place = { jid, title: name, callId: place, path: `/meeting/${place}`,
        secured: Boolean(passcode) };
      if (at.cancelled || !session) return;
    }
    await enter(session, place, nick, passcode, at, place.path);
  } catch (/** @type {any} */ problem) {
    at.over();
    if (isOver(problem, at.abort.signal)) return;
    const word = problem?.word === "not-authorized" ? "bad-passcode" : problem?.word;
    start({ join: wordsOf(problem, word) });
  }
}

/** @param {Session} ours @param {Place} place @param {string} nick @param {string} password
 *  @param {Attempt} at @param {string} path */
async function enter(ours, place, nick, password, at, path) {
  at.at("enter");
  const room = new Room(ours, { jid: place.jid, nick, password });
  const leaves = () => room.leave();
  at.abort.signal.addEventListener("abort", leaves);
  await room.enter();
  at.abort.signal.removeEventListener("abort", leaves);
  if (at.cancelled) throw new Fault("cancelled");
  performance.measure("join", { start: at.began });
  at.over();
  if (session !== ours) adopt(ours);
  const state = { screen: "room", wanted: account ? place : null, address: account };
  if (history.state?.screen === "room") history.replaceState(state, "", path);
  else history.pushState(state, "", path);
  inRoom(room, place);
}

// the room

/** @param {Room} room @param {Place} place */
function inRoom(room, place) {
  const people = new People(room, (count) => {
    toggle.textContent = `${say("people")} ${count}`;
  }), chat = new Chat(room);
  const subject = make("p", { class: "subject" });
  const hand = button(say("hand"), () => {
    const up = hand.getAttribute("aria-pressed") !== "true";
    room.setState({ hand: up });
    hand.setAttribute("aria-pressed", String(up));
  }, { "aria-pressed": "false", class: "tool hand" });
  const toggle = button(say("people"), () => {
    const open = toggle.getAttribute("aria-expanded") !== "true";
    toggle.setAttribute("aria-expanded", String(open));
    people.node.classList.toggle("open", open);
  }, { "aria-expanded": "false", "aria-controls": "people", class: "tool toggle" });
  const subjectChanged = () => {
    subject.replaceChildren(named(room.subject, 300));
    subject.hidden = !room.subject;
  };

  const followed = (/** @type {any} */ { detail }) => {
    people.changed();
    for (const one of detail.joined) if (!one.isSelf) announcer.tell("Joined", one.nick);
    for (const one of detail.left) if (!one.isSelf) announcer.tell("Left", one.nick);
    for (const one of detail.changed) {
      if (one.isSelf) hand.setAttribute("aria-pressed", String(Boolean(one.hand)));
      else if (one.hand && !people.hands.has(one.id)) announcer.tell("Hands", one.nick);
    }
    people.hands = new Set([...room.occupants.values()].filter((one) => one.hand).map((one) => one.id));
  };
  const heard = (/** @type {any} */ { detail }) => {
    chat.add(detail);
    if (!detail.mine && !detail.delayed) announcer.tell("Says", detail.nick, detail.text);
  };
  const left = (/** @type {any} */ { detail }) => out(detail.why);
  const away = (/** @type {any} */ { detail }) => banner.away(detail.why, detail.nextTry);
  const back = () => banner.clear(true);
  /** @type {[string, (event: any) => void][]} */
  const events = [["occupants", followed], ["message", heard], ["subject", subjectChanged],
    ["left", left], ["away", away], ["back", back]];
  for (const [name, listener] of events) room.addEventListener(name, listener);
  meeting = {
    room,
    place,
    end: () => {
      for (const [name, listener] of events) room.removeEventListener(name, listener);
      people.end();
      announcer.clear();
      meeting = null;
    },
  };
  subjectChanged();
  show("room", plain(place.title, 200), [
    make("div", { class: "bar" }, make("h1", {}, named(place.title, 200)), subject),
    make("div", { class: "room" }, people.node, chat.node),
    make("div", { class: "tools" }, hand, toggle,
      button(say("invite"), () => invite(place), { class: "tool" }),
      button(say("leave"), leaveRoom, { class: "tool danger" })),
  ]);
  people.draw();
  chat.catchUp();
}

/** Ends the meeting on this page, whatever comes next. @param {boolean} stays in the session */
function endMeeting(stays) {
  if (!meeting) return;
  const { room, end } = meeting;
  end();
  room.leave();
  if (!stays) disconnect();
}

function leaveRoom() {
  const place = meeting?.place;
  endMeeting(Boolean(account));
  forget();
  ended(say("leftTitle"), "", place);
}

/** The room or the session is over. @param {any} why */
function out(why) {
  const word = why?.word ?? "gone", now = performance.now();
  const body = ticket, { room, place, end } = meeting ?? /** @type {Partial<NonNullable<typeof meeting>>} */ ({});
  ticket = null;
  end?.();
  if (body && now > anewAt + ANEW_EVERY && ASKS_ANEW.has(word)) {
    anewAt = now;
    earlier = room;
    // The Callbridge that admitted him has forgotten it, since it was restarted.
    disconnect();
    forget();
    guest(body, Boolean(place?.secured));
    return;
  }
  if (!account || !session) disconnect();
  forget();
  ended(say("outTitle"), wordsOf(why, word), place);
}

/** @param {string} title @param {string} words @param {Place} [place] */
function ended(title, words, place) {
  closeDialogs();
  history.replaceState({ screen: "left" }, "", location.pathname);
  const again = () => {
    if (account && place) member(place, kept("localStorage", "name") || account.split("@")[0], "");
    else start();
  };
  show("left", title, [
    make("div", { class: "card" }, make("h1", {}, title),
      words && make("p", { class: "note bad", role: "alert" }, words),
      make("div", { class: "row" },
        button(say("joinAgain"), again),
        button(say(account ? "backToSpaces" : "backToStart"), () => {
          history.pushState({ screen: account ? "spaces" : "home" }, "", "/");
          start();
        }, { class: "second" }))),
  ]);
}

class People {
  /** The list: at most so many rows, of which only those that differ are touched.
   *  @param {Room} room @param {(count: number) => void} counted */
  constructor(room, counted) {
    this.room = room;
    this.counted = counted;
    this.most = MOST_ROWS;
    /** @type {Map<string, {row: HTMLElement, shown: string}>} */
    this.rows = new Map();
    /** @type {Set<string>} */
    this.hands = new Set();
    this.timer = 0;
    this.list = make("ul", { class: "rows" });
    this.count = make("span", { class: "count" });
    this.search = make("input", { type: "search", id: "find", autocomplete: "off",
      input: () => this.draw() });
    this.finder = make("div", { class: "finder" },
      make("label", { for: "find", class: "away" }, say("findPerson")), this.search);
    this.search.placeholder = say("findPerson");
    this.note = make("p", { class: "empty", hidden: true });
    this.more = button("", () => {
      this.most += MOST_ROWS;
      this.draw();
    }, { class: "second" });
    this.node = make("section", { class: "people", id: "people", "aria-labelledby": "people-title" },
      make("h2", { id: "people-title" }, say("people"), " ", this.count),
      this.finder, this.list, this.note, this.more);
  }

  /** Draws soon: often at a few, seldom at many. */
  changed() {
    this.timer ||= setTimeout(() => this.draw(), this.room.occupants.size > 50 ? 300 : 0);
  }

  end() {
    clearTimeout(this.timer);
  }

  draw() {
    clearTimeout(this.timer);
    this.timer = 0;
    const everybody = [...this.room.occupants.values()], wanted = this.search.value.trim().toLocaleLowerCase();
    const rank = (/** @type {Person} */ one) => (one.isSelf ? 0 : one.hand ? 1 : 2);
    const found = everybody
      .filter((one) => !wanted || one.nick.toLocaleLowerCase().includes(wanted))
      .sort((a, b) => rank(a) - rank(b) || collator.compare(a.nick, b.nick));
    const shown = found.slice(0, this.most);
    const moderates = everybody.some((one) => one.isSelf && one.role === "moderator");
    if (this.count.textContent !== String(everybody.length)) {
      this.counted(everybody.length);
      this.count.textContent = String(everybody.length);
    }
    this.count.setAttribute("aria-label", say("peopleCount", { count: everybody.length }));
    this.finder.hidden = everybody.length < SEARCH_FROM;
    const alone = everybody.length < 2;
    this.note.hidden = !alone && found.length > 0;
    if (!this.note.hidden) this.note.textContent = alone ? say("alone") : say("nobodyFound");
    this.more.hidden = found.length <= this.most;
    const more = say("showMore", { count: Math.min(MOST_ROWS, found.length - this.most) });
    if (!this.more.hidden && this.more.textContent !== more) this.more.textContent = more;
    const ids = new Set(shown.map((one) => one.id));
    for (const [id, { row }] of this.rows)
      if (!ids.has(id)) {
        row.remove();
        this.rows.delete(id);
      }
    /** @type {Element | null} */
    let place = this.list.firstElementChild;
    for (const one of shown) {
      const row = this.row(one, moderates);
      if (row === place) place = place.nextElementSibling;
      else this.list.insertBefore(row, place);
    }
  }

  /** @param {Person} one @param {boolean} moderates */
  row(one, moderates) {
    const kicks = moderates && !one.isSelf && one.role !== "moderator";
    const shown = [one.nick, one.role, one.hand, one.isSelf, one.reconnecting, kicks].join("\n");
    const old = this.rows.get(one.id);
    if (old?.shown === shown) return old.row;
    const row = old?.row ?? make("li", {});
    row.replaceChildren(
      avatar(one.nick),
      make("div", { class: "who" }, named(one.nick),
        make("span", { class: "tags" },
          one.isSelf && make("span", {}, say("you")),
          one.role === "moderator" && make("span", {}, say("moderator")),
          one.reconnecting && make("span", { class: "warn" }, say("reconnecting")),
          one.hand && make("span", { class: "up" }, say("handUp")))),
      ...(kicks ? [button(say("remove"), () => confirmKick(this.room, one), { class: "small",
        "aria-label": `${say("remove")} ${isolated(one.nick)}` })] : []));
    this.rows.set(one.id, { row, shown });
    return row;
  }
}

/** @param {string} nick */
function avatar(nick) {
  const name = plain(nick);
  let sum = 0;
  for (const character of name) sum = (sum * 31 + (character.codePointAt(0) ?? 0)) % 6;
  const [first = "?"] = [...name];
  return make("span", { class: `avatar tone${sum}`, "aria-hidden": "true" }, first.toLocaleUpperCase());
}

class Chat {
  /** @param {Room} room */
  constructor(room) {
    this.room = room;
    /** @type {Message | null} */
    this.last = null;
    this.list = make("ol", {});
    // Not a live region: the announcer says what is new, and not too often.
    this.view = make("div", { class: "log", role: "log", "aria-live": "off", tabindex: "0",
      "aria-labelledby": "chat-title", scroll: () => this.scrolled() }, this.list);
    this.empty = make("p", { class: "empty" }, say("noMessages"));
    this.newer = button(say("newMessages"), () => this.down(), { class: "newer", hidden: true });
    this.text = make("textarea", { id: "text", rows: "1", maxlength: String(MOST_TEXT),
      keydown: (/** @type {KeyboardEvent} */ event) => {
        if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
        event.preventDefault();
        this.send();
      } });
    this.text.placeholder = say("writeMessage");
    this.node = make("section", { class: "chat", "aria-labelledby": "chat-title" },
      make("h2", { id: "chat-title" }, say("chat")),
      make("div", { class: "scroller" }, this.empty, this.view, this.newer),
      formOf({ class: "write" }, () => this.send(),
        make("label", { for: "text", class: "away" }, say("writeMessage")), this.text,
        make("button", { type: "submit" }, say("send"))));
  }

  send(text = this.text.value.trim()) {
    if (!text) return;
    this.text.value = "";
    this.text.focus();
    const note = make("p", { class: "by", role: "status" }, say("sending"));
    const waiting = make("li", { class: "mine waiting" },
      note, make("p", { class: "said", dir: "auto" }, ...linked(text)));
    this.list.append(waiting);
    this.empty.hidden = true;
    this.down();
    this.room.say(text).then(() => waiting.remove(),
      (fault) => note.replaceChildren(say("notSent", { words: wordsOf(fault) })));
  }

  catchUp() {
    const known = new Set(this.room.messages.map((one) => one.id));
    const { messages, unheard } = earlier?.jid === this.room.jid ? earlier : this.room;
    const before = messages.filter((one) => !known.has(one.id));
    for (const one of [...before, ...this.room.messages].slice(-MOST_MESSAGES)) this.add(one);
    for (const { text } of unheard) this.send(text);
    earlier = undefined;
    this.down();
  }

  get isDown() {
    return this.view.scrollHeight - this.view.scrollTop - this.view.clientHeight < 40;
  }

  scrolled() {
    if (this.isDown) this.newer.hidden = true;
  }

  down() {
    this.view.scrollTop = this.view.scrollHeight;
    this.newer.hidden = true;
  }

  /** @param {Message} message */
  add(message) {
    const follows = this.isDown || message.mine, { last } = this;
    const joined = last && last.nick === message.nick && Number(message.at) - Number(last.at) < 300000;
    this.empty.hidden = true;
    this.list.append(make("li", { class: `${message.mine ? "mine" : ""} ${joined ? "joined" : ""}` },
      make("p", { class: "by" }, message.mine ? make("b", {}, say("you")) : make("b", {}, named(message.nick)),
        " ", make("time", { datetime: message.at.toISOString() }, clock.format(message.at))),
      make("p", { class: "said", dir: "auto" }, ...linked(message.text))));
    this.last = message;
    while (this.list.childElementCount > MOST_MESSAGES) this.list.firstElementChild?.remove();
    if (follows) this.down();
    else this.newer.hidden = false;
  }
}

/** A message, its web addresses as links. @param {unknown} text */
function linked(text) {
  let whole = String(text ?? "");
  const lines = whole.slice(0, MOST_TEXT).split("\n", MOST_LINES + 1);
  const cut = lines.length > MOST_LINES || whole.length > MOST_TEXT;
  whole = lines.slice(0, MOST_LINES).join("\n") + (cut ? "…" : "");
  return whole.split(/(https?:\/\/[^\s<>"]{1,1000})/).map((part, number) =>
    number % 2 ? make("a", { href: part, target: "_blank", rel: "noopener noreferrer" }, part) : part);
}

// dialogs

/** @param {string} title @param {...(Node | string | null)} content */
function dialog(title, ...content) {
  const opener = /** @type {HTMLElement | null} */ (document.activeElement);
  const node = make("dialog", { "aria-labelledby": "dialog-title", close: () => {
    node.remove();
    opener?.focus();
  } }, make("h2", { id: "dialog-title" }, title), ...content);
  document.body.append(node);
  node.showModal();
  return node;
}

function closeDialogs() {
  for (const one of document.querySelectorAll("dialog")) one.close();
}

/** @param {Place} place */
function invite(place) {
  const copied = make("p", { class: "hint", role: "status" });
  const copy = async (/** @type {HTMLInputElement} */ from) => {
    try {
      await navigator.clipboard.writeText(from.value);
      copied.textContent = say("copied");
    } catch { // denied, or not there
      from.select();
      copied.textContent = say("notCopied");
    }
  };
  const row = (/** @type {string} */ id, /** @type {string} */ label, /** @type {string} */ value) => {
    const box = make("input", { id, value, readonly: true, type: "text" });
    return make("div", { class: "field" }, make("label", { for: id }, label),
      make("div", { class: "row" }, box,
        button(say("copy"), () => copy(box), { class: "second", "aria-label": `${say("copy")}: ${label}` })));
  };
  const node = dialog(say("inviteTitle"),
    make("p", { class: "hint" }, say(place.secured ? "invitePasscode" : "inviteHint")),
    row("invite-link", say("link"), location.origin + place.path),
    place.callId ? row("invite-id", say("callId"), place.callId) : null,
    copied, button(say("close"), () => node.close(), { class: "second" }));
}

/** @param {Room} room @param {Person} one */
function confirmKick(room, one) {
  const node = dialog(say("removeTitle", { name: isolated(one.nick) }),
    make("p", { class: "hint" }, say("removeHint")),
    make("div", { class: "row" },
      button(say("remove"), () => {
        node.close();
        room.kick(one.nick).catch((fault) => {
          const told = dialog(wordsOf(fault), button(say("close"), () => told.close()));
        });
      }, { class: "danger" }),
      button(say("cancel"), () => node.close(), { class: "second" })));
}

// addresses, back and forward, reloads

/** What the history says is to be seen. */
function route() {
  const state = history.state ?? {}, token = kept("sessionStorage", "reentry");
  if (state.screen === "room" && state.wanted && session && account)
    member(state.wanted, kept("localStorage", "name") || account.split("@")[0], "");
  else if (state.screen === "room" && state.address) {
    start({ address: state.address, sign: "" });
    wanted = state.wanted;
  } else if (state.screen === "room" && token) guest({ reentry: token }, false);
  else start();
}

addEventListener("popstate", () => {
  closeDialogs();
  attempt?.drop();
  endMeeting(Boolean(account));
  route();
});

/** A tab that was duplicated has a copy of the other's token: whose it is, the lock tells. */
async function owns() {
  if (!navigator.locks) return;
  const tab = kept("sessionStorage", "tab") || crypto.randomUUID();
  /** @param {string} name @returns {Promise<boolean>} */
  const held = (name) => new Promise((resolve) => {
    navigator.locks.request(name, { signal: AbortSignal.timeout(400) }, () => {
      resolve(true);
      return new Promise(() => {}); // until the tab is closed or reloaded
    }).catch(() => resolve(false));
  });
  if (!(await held(tab))) {
    forget();
    const other = crypto.randomUUID();
    keep("sessionStorage", "tab", other);
    await held(other);
  } else keep("sessionStorage", "tab", tab);
}

page.dir = texts.direction;
if (!isSecureContext) show("note", SITE, [make("h1", {}, SITE), alertBox(say("insecure"))]);
else {
  if (kept("sessionStorage", "reentry")) await owns();
  else owns();
  route();
}
