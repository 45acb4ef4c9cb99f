const form = document.querySelector("form");
const said = document.querySelector("output");
const token = new URLSearchParams(location.search).get("token") || location.hash.slice(1);
// The link is as good as a password: it stays neither on the screen nor in the history.
history.replaceState(null, "", location.pathname);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = Object.fromEntries(new FormData(form));
  if (!form.elements.email) body.token = token;
  form.elements.send.disabled = true;
  try {
    const answer = await fetch(form.getAttribute("action"), {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    const done = answer.ok ? form.dataset.done : (await answer.json()).detail;
    said.textContent = done;
    form.elements.send.disabled = answer.ok;
  } catch {
    said.textContent = "It did not work. Please try again.";
    form.elements.send.disabled = false;
  }
});
