// Puts the news of a page in the place of its parts: each part comes as HTML that the server made
// and escaped, under the id of its element.
"use strict";

(() => {
  const address = document.body.dataset.live;
  const mark = document.getElementById("live-mark");
  if (!address || !window.EventSource) return;

  // What tells an element from its neighbours, so that the focus finds it again.
  const keyOf = (element) =>
    element.id || element.getAttribute("href") || element.getAttribute("name") || element.textContent;

  const isInUse = (part) => {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  };

  const put = (part, html) => {
    const focused = part.contains(document.activeElement) ? keyOf(document.activeElement) : null;
    const open = [...part.querySelectorAll("details[open]")].map((each) => each.id);
    part.innerHTML = html;
    for (const id of open) if (id) document.getElementById(id).open = true;
    if (focused !== null) {
      const again = [...part.querySelectorAll("a, button, input, summary")];
      again.find((each) => keyOf(each) === focused)?.focus({ preventScroll: true });
    }
  };

  const show = (isLive) => {
    mark.hidden = false;
    mark.textContent = isLive ? "live" : "not live";
    mark.classList.toggle("on", isLive);
  };

  const source = new EventSource(address);
  source.onopen = () => show(true);
  source.onerror = () => show(false);
  source.onmessage = (message) => {
    for (const [id, html] of Object.entries(JSON.parse(message.data))) {
      const part = document.getElementById(id);
      // What a person selects or has just been told stays.
      if (part && !isInUse(part) && (html || id !== "notice" || part.querySelector(".bad"))) put(part, html);
    }
  };
  window.addEventListener("pagehide", () => source.close());
})();
