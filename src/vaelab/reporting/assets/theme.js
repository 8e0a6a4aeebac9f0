// Colours of the style sheet, and the button that switches the theme.
"use strict";
const coloursIn = (element) => {
  const probe = element.appendChild(document.createElement("span"));  // resolves light-dark()
  return (name) => {
    probe.style.color = name.startsWith("--") ? `var(${name})` : name;
    return getComputedStyle(probe).color;
  };
};
const colour = coloursIn(document.body);

// follow the system's theme until the button chooses one; `redraw` what has colours of its own
const followTheme = (redraw) => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const themes = ["system", "light", "dark"];
  const choose = (theme) => {
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    button.setAttribute("aria-label", `Theme: ${theme === "system" ? "same as the system" : theme}`);
    redraw();
  };
  button.addEventListener("click", () => choose(themes[(themes.indexOf(root.dataset.theme ?? "system") + 1) % 3]));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
};
