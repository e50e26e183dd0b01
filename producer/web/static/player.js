// The player follows the words, and words lead the player.
"use strict";

(() => {
  const audio = document.getElementById("audio");
  const text = document.getElementById("text");
  const timeline = document.getElementById("timeline");
  const playhead = document.getElementById("playhead");
  const follow = document.getElementById("follow");
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

  const words = text ? [...text.querySelectorAll(".w")] : [];
  const times = words.map((word) => Number(word.dataset.t));
  const buttons = text ? [...text.querySelectorAll("button.time")] : [];
  // With channels the words are not in the order of their times.
  const order = times.map((_, index) => index).sort((a, b) => times[a] - times[b] || a - b);
  let now = -1;

  const isSeen = (element) => {
    const box = element.getBoundingClientRect();
    const top = document.querySelector(".player").getBoundingClientRect().bottom;
    return box.top > top && box.bottom < window.innerHeight - 40;
  };

  // The last word that begins no later than a time; -1 before the first one.
  const wordAt = (seconds) => {
    let low = 0;
    let high = order.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[order[middle]] <= seconds + 0.01) low = middle + 1;
      else high = middle;
    }
    return low ? order[low - 1] : -1;
  };

  const mark = (index) => {
    if (index === now) return;
    for (const each of text.querySelectorAll(".now")) each.classList.remove("now");
    now = index;
    if (index < 0) return;
    words[index].classList.add("now");
    words[index].closest(".segment").classList.add("now");
    if (follow?.checked && !audio.paused && !isSeen(words[index])) {
      words[index].scrollIntoView({ block: "center", behavior: calm.matches ? "auto" : "smooth" });
    }
  };

  const movePlayhead = (seconds) => {
    const length = Number(timeline?.dataset.length);
    if (!playhead || !length) return;
    const x = (1000 * Math.min(seconds, length)) / length;
    playhead.setAttribute("x1", x);
    playhead.setAttribute("x2", x);
  };

  const look = () => {
    if (text) mark(wordAt(audio.currentTime));
    movePlayhead(audio.currentTime);
    if (!audio.paused) requestAnimationFrame(look);
  };

  const goTo = (seconds) => {
    movePlayhead(seconds);
    if (audio) audio.currentTime = seconds;
    if (text && words.length) mark(wordAt(seconds));
  };

  const playOrPause = () => {
    if (!audio) return;
    // A play that is interrupted, or not possible, is no error: the player shows it.
    if (audio.paused) audio.play().catch(() => {});
    else audio.pause();
  };

  if (audio) {
    for (const name of ["play", "seeked", "timeupdate"]) audio.addEventListener(name, look);
    audio.addEventListener("error", () => {
      document.getElementById("audio-problem").hidden = false;
    });
  }

  timeline?.addEventListener("click", (event) => {
    const box = timeline.getBoundingClientRect();
    goTo((Number(timeline.dataset.length) * (event.clientX - box.left)) / box.width);
  });
  if (!text) return;

  text.addEventListener("click", (event) => {
    const target = event.target.closest("[data-t]");
    if (target && document.getSelection().isCollapsed) goTo(Number(target.dataset.t));
  });

  // One stop of the Tab key for all passages; arrows lead from one to the next.
  const focusOn = (index) => {
    const next = buttons[Math.max(0, Math.min(index, buttons.length - 1))];
    for (const each of buttons) each.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  };

  const step = (by) => {
    const at = now < 0 ? -1 : order.indexOf(now);
    const next = order[Math.max(0, Math.min(at + by, order.length - 1))];
    goTo(times[next]);
    mark(next);
  };

  text.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const at = buttons.indexOf(document.activeElement);
    const keys = {
      ArrowDown: () => focusOn(at + 1),
      ArrowUp: () => focusOn(at - 1),
      Home: () => focusOn(0),
      End: () => focusOn(buttons.length - 1),
      ArrowRight: () => step(1),
      ArrowLeft: () => step(-1),
      " ": () => playOrPause(),
    };
    if (at < 0 || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });

  // From one passage or word that a person should check to the next.
  const checks = [...text.querySelectorAll(".segment.flagged button.time, .w.doubt")];
  let check = -1;
  const toCheck = (by) => {
    check = (check + by + checks.length) % checks.length;
    const element = checks[check];
    goTo(Number(element.dataset.t));
    element.scrollIntoView({ block: "center", behavior: calm.matches ? "auto" : "smooth" });
    const at = buttons.indexOf(element.closest(".segment").querySelector("button.time"));
    for (const each of buttons) each.tabIndex = -1;
    buttons[at].tabIndex = 0;
  };
  for (const [id, by] of [["previous-check", -1], ["next-check", 1]]) {
    const button = document.getElementById(id);
    button.disabled = !checks.length;
    button.addEventListener("click", () => toCheck(check < 0 && by < 0 ? 0 : by));
  }

  const hit = document.getElementById("hit");
  if (hit) hit.scrollIntoView({ block: "center" });
})();
