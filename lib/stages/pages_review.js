"use strict";
// Nothing here asks a network or keeps anything: without this script a page is whole, only less handy.
const page = document.documentElement;
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (page.dataset.theme ? page.dataset.theme === "dark" : systemDark.matches);

const theme = document.getElementById("theme");
const nameTheme = () => { theme.textContent = isDark() ? "light" : "dark"; };
theme.hidden = false;
theme.onclick = () => { page.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); };
systemDark.onchange = nameTheme;
nameTheme();

const folded = document.querySelectorAll("details.code");
const unfold = document.getElementById("unfold");
unfold.hidden = folded.length === 0;
unfold.onclick = () => {
  const open = unfold.textContent === "show code";
  for (const code of folded) code.open = open;
  unfold.textContent = open ? "hide code" : "show code";
};

const contents = document.querySelector(".contents");
if (contents) contents.open = matchMedia("(min-width: 72rem)").matches;

const press = (element, act) => {
  element.tabIndex = 0;
  element.onclick = act;
  element.onkeydown = (event) => { if (event.key === "Enter") act(); };
};

for (const figure of document.querySelectorAll(".before-after")) press(figure, () => figure.classList.toggle("after"));

const large = document.getElementById("large");
const shown = large.firstElementChild;
large.onclick = () => large.close();
for (const image of document.querySelectorAll("main img")) {
  if (image.closest("a, .before-after")) continue;
  press(image, () => {
    const fits = Math.min(innerWidth * 0.96, (innerHeight * 0.94 * image.naturalWidth) / image.naturalHeight);
    shown.src = image.src;
    shown.alt = image.alt;
    shown.className = image.className;
    shown.style.width = `${Math.max(image.naturalWidth, fits)}px`; // what is larger than the window scrolls in its box
    large.showModal();
  });
}
