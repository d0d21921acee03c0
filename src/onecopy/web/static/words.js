// Numbers as people read them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function size(bytes) {
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${UNITS[unit]}`;
}

const whole = new Intl.NumberFormat("en");

export function count(number) {
  return whole.format(number);
}

export function rate(number) {
  if (number === null) return "–";
  return number > 0 && number < 10 ? number.toFixed(1) : whole.format(Math.round(number));
}

export function duration(seconds) {
  if (seconds === null) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

export function percent(part, all) {
  const share = all > 0 ? (100 * part) / all : 0;
  if (share > 0 && share < 0.05) return "< 0.1 %";
  return `${share > 0 && share < 10 ? share.toFixed(1) : Math.round(share)} %`;
}
