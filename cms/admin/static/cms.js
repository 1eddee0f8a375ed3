// Follows what changes: the part with data-events is brought up to date by server-sent events.
"use strict";
(() => {
  const live = document.querySelector("[data-events]");
  if (!live || !window.EventSource) return;

  // Changes only what differs, so that focus, selection and open details stay where they are.
  function sync(old, fresh) {
    for (const { name, value } of fresh.attributes)
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    for (const { name } of [...old.attributes])
      if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
    syncChildren(old, fresh);
  }

  function syncChildren(old, fresh) {
    let at = old.firstChild;
    for (const wanted of [...fresh.childNodes]) {
      const found = match(old, at, wanted);
      if (!found) {
        old.insertBefore(document.importNode(wanted, true), at);
        continue;
      }
      if (found !== at) old.insertBefore(found, at);
      else at = at.nextSibling;
      if (found.nodeType !== Node.ELEMENT_NODE) {
        if (found.data !== wanted.data) found.data = wanted.data;
      } else sync(found, wanted);
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }

  // What has an id stays itself wherever it moves; the rest is matched by its place.
  function match(parent, at, wanted) {
    if (wanted.id)
      return [...parent.children].find((c) => c.id === wanted.id && c.tagName === wanted.tagName);
    return at && !at.id && at.nodeName === wanted.nodeName ? at : null;
  }

  const notice = document.createElement("p");
  notice.className = "note failed";
  notice.setAttribute("role", "alert");
  notice.hidden = true;
  live.before(notice);
  let lost = 0;

  function follow() {
    const source = new EventSource(live.dataset.events);
    source.addEventListener("live", (event) => {
      clearTimeout(lost);
      lost = 0;
      notice.hidden = true;
      const page = new DOMParser().parseFromString(JSON.parse(event.data), "text/html");
      syncChildren(live, page.body);
    });
    source.addEventListener("error", () => {
      // A daemon that restarts is back in a moment: only a longer silence is told.
      lost ||= setTimeout(() => {
        notice.textContent = "The daemon does not answer. What is shown is as it was; trying again.";
        notice.hidden = false;
      }, 3000);
      if (source.readyState === EventSource.CLOSED) setTimeout(follow, 5000);
    });
  }
  follow();
})();
