"use strict";
// Exchanges the token for a cookie. It comes behind "#" in the link, which a browser sends to nobody, and leaves the
// address bar and the history before anything else happens.
const said = document.getElementById("said");

async function enter(token) {
  const answer = await fetch("/session", {method: "POST", body: JSON.stringify({token})}).catch(() => null);
  if (answer && answer.ok) {
    location.replace("/");
    return;
  }
  said.hidden = false;
  if (!answer) said.textContent = "The console gives no answer.";
  else if (answer.status === 429) said.textContent = `Too many wrong tokens; try again in ${answer.headers.get("Retry-After")} s.`;
  else said.textContent = "This is not the console's token; platform console prints the right link.";
}

document.getElementById("form").addEventListener("submit", (event) => {
  event.preventDefault();
  enter(document.getElementById("token").value.trim());
});

const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  history.replaceState(null, "", "/");
  enter(given);
}
