// What the optima are computed with. Arrays are Float64Arrays over outcomes; logarithms are natural, in nats.
"use strict";

const LEAST_WEIGHT = 16 * 2.2250738585072014e-308; // a smaller weight counts as 0: its reciprocal is not safe
const MOST_STEPS = 200; // of Newton's method, which needs 5 to 30

const sum = (values) => {
  let total = 0;
  for (const value of values) total += value;
  return total;
};

const largest = (values) => {
  let most = -Infinity;
  for (const value of values) if (value > most) most = value;
  return most;
};

// log Σ exp(v), which never overflows; −∞ of nothing.
const logSumExp = (values) => {
  const top = largest(values);
  if (top === -Infinity) return -Infinity;
  let total = 0;
  for (const value of values) total += Math.exp(value - top);
  return top + Math.log(total);
};

// Log-probabilities that sum to 1.
const normalised = (values) => {
  const total = logSumExp(values);
  return values.map((value) => value - total);
};

const logSigmoid = (x) => (x < 0 ? x - Math.log1p(Math.exp(x)) : -Math.log1p(Math.exp(-x)));

// Wright's omega on the real line: the root of ω + log ω = a, by a fourth-order iteration.
// Lawrence, Corless and Jeffrey 2012.
const wrightOmega = (a) => {
  if (a <= -40) return Math.exp(a);
  if (a === Infinity) return Infinity;
  if (a >= 1e9) return a - Math.log(a) * (1 - 1 / a);
  let omega = a > 1 ? a - Math.log(a) : 1 / (1 + Math.exp(0.5 - a));
  for (let i = 0; i < 4; i++) {
    const residual = a - omega - Math.log(omega);
    if (Math.abs(residual) < 1e-16 * Math.abs(a)) break; // two steps are mostly enough
    const grown = 1 + omega;
    const q = 2 * grown * (grown + (residual * 2) / 3);
    omega *= 1 + ((residual / grown) * (q - residual)) / (q - 2 * residual);
  }
  return omega;
};

// The fixed point of a step of Newton's method that can only rise towards it.
const climb = (step, start) => {
  let value = start;
  for (let i = 0; i < MOST_STEPS; i++) {
    const risen = step(value);
    if (!(risen > value)) return value;
    value = risen;
  }
  throw new Error("the solution was not reached");
};

// Where a falling function is 0 between two bounds, to the last digit: Chandrupatla's method (1997), which
// interpolates where that is safe and halves the bracket where it is not.
const rootOfFalling = (f, low, high) => {
  let [a, b] = [low, high];
  let [fa, fb] = [f(a), f(b)];
  for (let i = 0; i < MOST_STEPS && !(Number.isFinite(fa) && Number.isFinite(fb)); i++) {
    const middle = (a + b) / 2;
    const value = f(middle);
    if (value > 0) [a, fa] = [middle, value];
    else [b, fb] = [middle, value];
    if (middle === a && middle === b) return middle;
  }
  if (!(fa > 0)) return a;
  if (!(fb < 0)) return b;
  [a, b, fa, fb] = [b, a, fb, fa]; // b is the last point but one
  let [c, fc, share] = [a, fa, 0.5];
  for (let i = 0; i < MOST_STEPS; i++) {
    const x = a + share * (b - a);
    const fx = f(x);
    if (Math.sign(fx) === Math.sign(fa)) [c, fc] = [a, fa];
    else [c, fc, b, fb] = [b, fb, a, fa];
    [a, fa] = [x, fx];
    const best = Math.abs(fa) < Math.abs(fb) ? a : b;
    const width = (2 * Number.EPSILON * Math.abs(best) + Number.MIN_VALUE) / Math.abs(b - a);
    if (width > 0.5 || fa === 0) return best;
    const xi = (a - b) / (c - b);
    const phi = (fa - fb) / (fc - fb);
    const interpolates = phi * phi < xi && (1 - phi) * (1 - phi) < 1 - xi;
    share = interpolates
      ? (fa / (fb - fa)) * (fc / (fb - fc)) + ((((c - a) / (b - a)) * fa) / (fc - fa)) * (fb / (fc - fb))
      : 0.5;
    share = Math.min(1 - width, Math.max(width, share));
  }
  return a;
};

// Optimum of E[R] − β KL(π ‖ π_ref) + η H(π):   log p = (β log π_ref + R) / (β + η) − log Z
const reverseKlTarget = (logRef, rewards, beta, entropy = 0) => {
  const best = largest(rewards);
  return normalised(logRef.map((log, i) => (beta * log + (rewards[i] - best)) / (beta + entropy)));
};

// Optimum of E[R] − β KL(π_ref ‖ π):   p = β π_ref / (Λ − R),   Λ > max R on the support such that Σ p = 1
//
// Solved for the gap s = Λ − max R. Where the best reward outside the support exceeds Λ, Λ is that reward,
// and the mass that is left goes there.
const forwardKlTarget = (logRef, rewards, beta) => {
  const weights = logRef.map((log) => beta * Math.exp(log));
  const isHole = (i) => weights[i] < LEAST_WEIGHT;
  let [best, outside] = [-Infinity, -Infinity];
  rewards.forEach((reward, i) => {
    if (isHole(i)) outside = Math.max(outside, reward);
    else best = Math.max(best, reward);
  });
  if (best === -Infinity) throw new Error("β is too small for 64-bit numbers");
  let gap = largest(weights.map((weight, i) => weight - (isHole(i) ? 0 : best - rewards[i])));
  gap = Math.max(gap, LEAST_WEIGHT);
  for (let steps = 0; ; steps++) {
    let [total, slope] = [0, 0];
    weights.forEach((weight, i) => {
      const inverse = 1 / ((isHole(i) ? 0 : best - rewards[i]) + gap);
      total += weight * inverse;
      slope += weight * inverse * inverse;
    });
    const rise = (total * (total - 1)) / slope; // Newton's step on 1/total − 1, which is concave in the gap
    gap += Math.max(rise, 0);
    if (rise <= 1e-9 * gap) break;
    if (steps === MOST_STEPS) throw new Error("the solution was not reached");
  }
  const hasMassOutside = outside - best > gap;
  if (hasMassOutside) gap = outside - best;
  const found = logRef.map((log, i) => {
    const distance = gap + (best - rewards[i]);
    return distance > 0 ? log + Math.log(beta) - Math.log(distance) : -Infinity;
  });
  if (hasMassOutside) {
    const left = Math.max(0, 1 - sum(found.map((log, i) => (isHole(i) ? 0 : Math.exp(log)))));
    const winners = rewards.reduce((count, reward, i) => count + (isHole(i) && reward === outside), 0);
    rewards.forEach((reward, i) => {
      if (isHole(i) && reward === outside) found[i] = Math.log(left / winners);
    });
  }
  return found;
};

// Where rewards that fall as their outcome fills up come to rest, with q = π_ref and a penalty c ≥ 0:
//   reverse KL   R − c p − β log(p/q) = Λ:   p = (β/c) ω((R − Λ)/β + log q + log(c/β))
//   forward KL   R − c p + β q/p = Λ:        c p² + (Λ − R) p − β q = 0
const crowdingTarget = (logRef, rewards, penalty, beta, kl) => {
  const best = largest(rewards);
  const shifted = rewards.map((reward) => reward - best);
  const n = rewards.length;
  let masses, start, slopeOf;
  if (kl === "reverse") {
    const logShare = penalty.map((c) => (c > 0 ? Math.log(c / beta) : 0));
    masses = (level) =>
      shifted.map((reward, i) => {
        const plain = logRef[i] + (reward - level) / beta;
        const omega = penalty[i] > 0 ? wrightOmega(plain + logShare[i]) : 0;
        return omega > 1 ? Math.log(omega) - logShare[i] : plain - omega; // neither subtracts large numbers
      });
    slopeOf = (p, i) => p / (penalty[i] * p + beta);
    start = largest(shifted.map((reward, i) => reward - penalty[i] + beta * logRef[i]));
  } else {
    const pull = logRef.map((log) => beta * Math.exp(log));
    masses = (level) =>
      shifted.map((reward, i) => {
        const slack = level - reward;
        const root = Math.sqrt(slack * slack + 4 * penalty[i] * pull[i]);
        if (slack > 0) return Math.log((2 * pull[i]) / (slack + root));
        return penalty[i] > 0 ? Math.log((root - slack) / (2 * penalty[i])) : -Infinity;
      });
    slopeOf = (p, i) => (p > 0 ? (p * p) / (penalty[i] * p * p + pull[i]) : 0);
    start = largest(shifted.map((reward, i) => reward - penalty[i] + pull[i]));
  }
  const step = (level) => {
    const found = masses(level);
    let [total, slope] = [0, 0];
    for (let i = 0; i < n; i++) {
      const p = Math.exp(found[i]);
      total += p;
      slope += slopeOf(p, i);
    }
    return level + (total - 1) / slope;
  };
  return normalised(masses(climb(step, start)));
};
