// Light, dark, or what the system says: set before the first paint, so that nothing flashes.
(function () {
  const order = ["auto", "light", "dark"];
  const words = { auto: "as the system", light: "light", dark: "dark" };
  let theme = "auto";
  try {
    theme = order.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "auto";
  } catch {
    // storage may be forbidden; the system's theme does
  }

  function apply() {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (!button) return;
    const text = `Theme: ${words[theme]}`;
    button.title = text;
    button.setAttribute("aria-label", text);
    button.querySelector("use").setAttribute("href", `#icon-${theme}`);
  }

  apply();
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    document.getElementById("theme").addEventListener("click", () => {
      theme = order[(order.indexOf(theme) + 1) % order.length];
      try {
        localStorage.setItem("theme", theme);
      } catch {
        // it then lasts as long as the page
      }
      apply();
    });
  });
})();
