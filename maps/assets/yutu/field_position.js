// Whether typed text is plainly no position, so that it can be said without a network. Only the
// server reads positions (geo/position.py): what it might read is never called unreadable here.

const FOLDED = {
  "º": "°", "˚": "°", "度": "°", "′": "'", "＇": "'", "’": "'", "‘": "'", "分": "'",
  "″": '"', "＂": '"', "”": '"', "“": '"', "秒": '"', "−": "-", "–": "-", "、": ",", "，": ",", "；": ";",
};
const MARKS = /[东西]经|[南北]纬|[经纬]°|[东北]|LATITUDE|LONGITUDE|LAT|LON|LNG|[NSEW]/g;
const SIGNS = /^[\d\s.,;:=/+\-°'"()[\]]*$/;
const SPELLED = /(?!百度)[〇零一二两三四五六七八九十百点]+(?=[度分秒])/g;
const NUMBER = /\d+(\.\d+)?/g;
const NUMBERS_MOST = 6; // degrees, minutes and seconds, twice

export function unreadable(text) {
  const folded = Array.from(text.replace(SPELLED, "1"), (one) => FOLDED[one] ?? one).join("").normalize("NFKC").toUpperCase()
    .replace(/^[\s,;.。]+|[\s,;.。]+$/g, "");
  if (!folded) return false; // nothing given
  const rest = folded.replace(MARKS, " ");
  const numbers = rest.match(NUMBER)?.length ?? 0;
  return !SIGNS.test(rest) || numbers < 2 || numbers > NUMBERS_MOST;
}
