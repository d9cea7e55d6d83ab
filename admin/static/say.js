// One place that speaks to screen readers: the polite live region at the end of every page.
export function say(text) {
  const region = document.getElementById("status");
  region.textContent = "";
  requestAnimationFrame(() => { region.textContent = text; });
}

// A problem+json answer (RFC 9457) as one sentence, whatever came back.
export async function sentenceOf(response) {
  try {
    const problem = await response.json();
    return problem.detail || problem.title;
  } catch {
    return `The server answered ${response.status}. Nothing was changed. Try again in a moment.`;
  }
}

export const UNREACHABLE = "The server cannot be reached, so nothing was changed. 911 calls do not depend on this page. Try again in a moment.";
