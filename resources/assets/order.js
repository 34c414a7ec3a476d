// Brings the order page to life: asks how the order stands, moves the bar, reloads on a new state.
// Text comes from the server's page alone; this file writes numbers and durations, by textContent.
"use strict";
{
  const main = document.querySelector("main[data-job-id]");
  const one = (name) => main.querySelector(name);
  const all = (name) => main.querySelectorAll(name);

  // Seconds between two questions: first, growth, longest.
  const PACE = {
    awaiting_payment: [2, 1.2, 15],
    pending: [2, 1.2, 8],
    processing: [2, 1.1, 6],
    failed: [20, 1.5, 120],
    abandoned: [10, 1.5, 60],
  };
  const LONGEST_WAIT = 60;
  const SECOND = 1000;

  const address = location.pathname;
  const job = main.dataset.jobId;
  const pace = PACE[main.dataset.status];
  let wait = pace ? pace[0] : 0;
  let timer = 0;
  let asking = false;
  let spoken = -1;

  function hideAddress() {
    // The address is the key to the order: keep it out of screenshots and shared screens.
    const returned = new URLSearchParams(location.search).get("smi_payment");
    const cut = address.lastIndexOf("/");
    if (cut > 0 && address.slice(cut + 1) === job) {
      history.replaceState({ order: address }, "", address.slice(0, cut));
    }
    return returned;
  }

  function showReturn(returned) {
    const kind = returned === "cancelled" ? "cancelled" : returned === "success" ? "success" : "";
    if (!kind) return;
    all("[data-when-returned]").forEach((part) => {
      part.hidden = part.dataset.whenReturned !== kind;
    });
    all("[data-when-not-returned]").forEach((part) => {
      part.hidden = !(kind === "cancelled" && "alsoWhenCancelled" in part.dataset);
    });
  }

  function reload() {
    clearTimeout(timer);
    location.replace(address);
  }

  function say(text) {
    one("[data-live]").textContent = text;
  }

  function showProgress(progress) {
    const bar = one("[data-bar]");
    if (!bar) return;
    const known = typeof progress === "number" && progress >= 0 && progress <= 1;
    const percent = known ? Math.min(Math.floor(progress * 100), 99) : 0;
    all("[data-percent-part]").forEach((part) => {
      part.hidden = !known;
    });
    all("[data-percent]").forEach((part) => {
      part.textContent = String(percent);
    });
    if (known) bar.value = percent;
    else bar.removeAttribute("value");
    // A voice for every percent would be noise.
    const quarter = Math.floor(percent / 25);
    if (known && quarter > spoken) {
      if (spoken >= 0) say(`${percent}%`);
      spoken = quarter;
    }
  }

  function showOffline(away) {
    one("[data-offline]").hidden = !away;
  }

  function plan(seconds) {
    clearTimeout(timer);
    if (!pace || document.hidden) return;
    timer = setTimeout(ask, seconds * SECOND);
  }

  async function ask() {
    if (asking) return;
    asking = true;
    let next = wait;
    try {
      const answer = await fetch(`/smi/v1/job-status/${encodeURIComponent(job)}`, {
        cache: "no-store",
        credentials: "omit",
        referrerPolicy: "no-referrer",
        headers: { Accept: "application/json" },
      });
      if (answer.status === 404) return reload();
      if (!answer.ok) {
        next = Number(answer.headers.get("Retry-After")) || Math.min(wait * 2, LONGEST_WAIT);
        wait = Math.min(wait * 2, LONGEST_WAIT);
      } else {
        const { data } = await answer.json();
        showOffline(false);
        if (data.status !== main.dataset.status) return reload();
        if (data.payment_status !== main.dataset.paymentStatus) return reload();
        showProgress(data.progress);
        wait = Math.min(Math.max(wait, pace[0]) * pace[1], pace[2]);
        next = wait;
      }
    } catch {
      showOffline(true);
      wait = Math.min(wait * 2, LONGEST_WAIT);
      next = wait;
    } finally {
      asking = false;
    }
    plan(next);
  }

  function showTimeLeft(first) {
    const left = one("[data-left]");
    const end = Date.parse(main.dataset.expiresAt || "");
    if (!left || Number.isNaN(end)) return;
    const minutes = Math.floor((end - Date.now()) / (60 * SECOND));
    if (minutes < 0) {
      // The server just called the link live, so this clock runs ahead: a reload would never end.
      if (!first) reload();
      return;
    }
    const hours = Math.floor(minutes / 60);
    const days = Math.floor(hours / 24);
    left.textContent =
      days > 1 ? `${days} days left`
      : hours > 0 ? `${hours} h ${minutes % 60} min left`
      : minutes > 0 ? `${minutes} min left`
      : "Less than a minute left";
    left.hidden = false;
    const untilNext = end - Date.now() - minutes * 60 * SECOND;
    setTimeout(showTimeLeft, untilNext + SECOND);
  }

  function wake() {
    if (document.hidden || !pace) return;
    wait = pace[0];
    ask();
  }

  showReturn(hideAddress());
  showTimeLeft(true);
  if (pace) {
    document.addEventListener("visibilitychange", wake);
    addEventListener("pageshow", (event) => event.persisted && wake());
    addEventListener("online", wake);
    addEventListener("offline", () => showOffline(true));
    plan(wait);
  }
}
