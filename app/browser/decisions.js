// What a checkpoint's rules make of its probabilities, as ct_xception/serving/decisions.py and text.py have it.

/** Probabilities (Float64Array) of logits over a temperature. */
export function softmax(unscaled, temperature = 1) {
  const logits = Float64Array.from(unscaled, (logit) => logit / temperature);
  const most = Math.max(...logits);
  const powers = Float64Array.from(logits, (logit) => Math.exp(logit - most));
  const total = powers.reduce((sum, one) => sum + one, 0);
  return powers.map((one) => one / total);
}

/** `97.2 %`; never 0 or 100, which no classifier can know. */
export function percent(probability) {
  if (probability < 0.001) return "<0.1 %";
  if (probability > 0.999) return ">99.9 %";
  return `${(100 * probability).toFixed(1)} %`;
}

/** [[class, probability], ...], the most probable first. */
export function ranked(probabilities, names) {
  return names.map((name, k) => [name, probabilities[k]]).sort((a, b) => b[1] - a[1]);
}

/** How badly each class of a ranking would fit: lower is better. */
function nonconformity(ranking, rule) {
  if (rule.method === "lac") return ranking.map(([, probability]) => 1 - probability);
  let above = 0;
  return ranking.map(([, probability], rank) => {
    const late = rule.method === "raps" ? rule.penalty * Math.max(rank + 1 - rule.free_ranks, 0) : 0;
    const score = above + late;
    above += probability;
    return score;
  });
}

/** The classes that cannot be ruled out; a rule without a threshold rules out none. */
export function predictionSet(ranking, rule) {
  const scores = nonconformity(ranking, rule);
  const limit = (name) => (rule.thresholds ? rule.thresholds[name] : rule.threshold);
  return ranking.filter(([name], k) => limit(name) === null || scores[k] <= limit(name)).map(([name]) => name);
}

/** `No answer: between a and b` where the checkpoint abstains, which is its answer; else empty. */
export function abstention(ranking, rules) {
  if (rules.abstain_below === null || ranking[0][1] >= rules.abstain_below) return "";
  const kept = rules.conformal ? predictionSet(ranking, rules.conformal) : [];
  const names = kept.length > 1 ? kept : ranking.slice(0, 2).map(([name]) => name);
  return `No answer: between ${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/** The yes or no of each operating point: [{name, kind, positive, score, threshold}, ...]. */
export function decidePoints(ranking, rules) {
  const probabilities = Object.fromEntries(ranking);
  return rules.operating_points.map(({ name, kind, positive, threshold }) => {
    const score = positive.reduce((sum, one) => sum + probabilities[one], 0);
    return { name, kind, positive: score >= threshold, score, threshold };
  });
}

/**
 * What the rules {conformal, operating_points, abstain_below, temperature, calibrated_on} say of a ranking, a
 * sentence each; of the operating points only those of class groups.
 */
export function decide(ranking, rules) {
  const said = [];
  if (rules.conformal) {
    const kept = predictionSet(ranking, rules.conformal);
    const classes = kept.join(", ") || "empty, no class fits as well as right answers mostly do";
    said.push(`prediction set at ${Number((100 * rules.conformal.coverage).toPrecision(6))} % coverage: ${classes}`);
  }
  if (rules.abstain_below !== null && ranking[0][1] < rules.abstain_below) {
    said.push(`abstains: this checkpoint answers from ${percent(rules.abstain_below)} confidence on`);
  }
  for (const point of decidePoints(ranking, rules)) {
    const sign = point.positive ? "≥" : "<";
    const answer = `${point.positive ? "yes" : "no"} (${percent(point.score)} ${sign} ${percent(point.threshold)})`;
    if (point.kind === "group") said.push(`${point.name}: ${answer}`);
  }
  if (rules.temperature !== 1) {
    said.push(`probabilities calibrated on ${rules.calibrated_on ?? "validation"} (temperature ${rules.temperature.toFixed(2)})`);
  }
  return said;
}
