const asleep = document.getElementById("asleep");
const every = 1000 * document.getElementById("refresh").dataset.seconds;
let tag = "";

function places(part) {  // how far the boxes of a part are scrolled, and what holds the keyboard
  return [...part.querySelectorAll(".scroll")].map(box => [box.scrollLeft, box.scrollTop, box === document.activeElement]);
}

function replace(text) {
  const news = new DOMParser().parseFromString(text, "text/html"), [x, y] = [scrollX, scrollY];
  for (const old of document.querySelectorAll("[data-live]")) {
    const fresh = news.getElementById(old.id);
    if (!fresh || fresh.outerHTML === old.outerHTML) continue;
    const kept = places(old);
    old.replaceWith(fresh);
    fresh.querySelectorAll(".scroll").forEach((box, i) => {
      if (!kept[i]) return;
      [box.scrollLeft, box.scrollTop] = kept[i];
      if (kept[i][2]) box.focus({preventScroll: true});
    });
  }
  const style = news.querySelector("style");  // new sizes bring new colours
  if (style.textContent !== document.querySelector("style").textContent) document.querySelector("style").replaceWith(style);
  document.title = news.title;
  scrollTo({left: x, top: y, behavior: "instant"});
}

async function refresh() {
  try {
    const answer = await fetch("./", {headers: tag ? {"If-None-Match": tag} : {}, cache: "no-store"});
    if (answer.status !== 304 && !answer.ok) throw new Error(await answer.text());
    if (answer.status === 200) {
      tag = answer.headers.get("ETag") ?? "";
      replace(await answer.text());
    }
    asleep.hidden = true;
  } catch (error) {
    const says = error instanceof TypeError ? "the command that watches does not answer" : error.message.slice(0, 300);
    asleep.textContent = `What is shown is old: ${says}`;
    asleep.hidden = false;
  }
  setTimeout(refresh, every);
}
setTimeout(refresh, every);
