// The optimum of each method, one function a method, by its name in allmodes.methods.METHODS.
//
// Each takes a problem { logRef, rewards, good, beta, kl, tau, settings } and returns log-probabilities, or null
// where the optimum is not known; it throws where the method does not take the rewards. q = π_ref, S = the good
// outcomes (R ≥ τ), z = the likeliest of S. They are the functions of allmodes.methods, `optimum`, for many samples
// and outcomes that are written in one way, and a test holds them to these.
"use strict";

const OPTIMA = {
  // p ∝ q exp(R/β); under a forward KL p = β q / (Λ − R)
  vanilla({ logRef, rewards, beta, kl }) {
    return kl === "reverse" ? reverseKlTarget(logRef, rewards, beta) : forwardKlTarget(logRef, rewards, beta);
  },

  // p ∝ q(z) exp(R(z)/β) in S,  q exp(R/β) elsewhere
  mara(problem) {
    return tilted(problem, 1);
  },

  // log p = (1 − λ) (log q + R/β) + λ (log q(z) + R(z)/β) in S, and log q + R/β elsewhere, up to a constant
  tempered(problem) {
    return tilted(problem, problem.settings.flattening);
  },

  // reverse KL: p = R / (β ω(log(R/(β q)) + t)) with the t of Σ p = 1;  forward KL: p = (R + β q) / (Σ R + β)
  ips({ logRef, rewards, beta, kl }) {
    refuseNegative(rewards);
    if (sum(rewards) === 0) return null;
    if (kl === "forward") {
      const masses = rewards.map((reward, i) => reward + beta * Math.exp(logRef[i]));
      const total = sum(masses);
      return masses.map((mass) => Math.log(mass) - Math.log(total));
    }
    const logShare = rewards.map((reward) => Math.log(reward) - Math.log(beta)); // −∞ for a reward of 0
    const at = (t) => {
      const slopes = new Float64Array(rewards.length);
      const logs = rewards.map((_, i) => {
        if (logRef[i] === -Infinity) return -Infinity;
        const a = logShare[i] - logRef[i] + t;
        const omega = wrightOmega(a);
        slopes[i] = -1 / (1 + omega);
        return a > 0 ? logShare[i] - Math.log(omega) : logRef[i] - t + omega; // two forms of one number
      });
      return { logs, slopes };
    };
    const step = (t) => {
      const { logs, slopes } = at(t);
      const total = logSumExp(logs);
      let slope = 0;
      logs.forEach((log, i) => (slope += Math.exp(log - total) * slopes[i]));
      return t - total / slope;
    };
    return normalised(at(climb(step, 0)).logs);
  },

  // p ∝ (q^β exp R)^(1/(β + η))
  entropy({ logRef, rewards, beta, kl, settings }) {
    return kl === "forward" ? null : reverseKlTarget(logRef, rewards, beta, settings.entropy);
  },

  // In S p = P s,  s ∝ (q^β e^R)^(1/(a + β));  elsewhere p = (1 − P) w,  w ∝ q e^(R/β);  a is the strength, and
  // β log P/(1 − P) = (a + β) log Σ_S (q^β e^R)^(1/(a + β)) + a Σ_S s² log s / Σ_S s² − β log Σ q e^(R/β)
  ucpo({ logRef, rewards, good, beta, kl, settings }) {
    const inSupport = good.map((isGood, i) => isGood && logRef[i] !== -Infinity);
    if (kl === "forward" || settings.form !== "additive" || settings.scale !== "none") return null;
    if (!inSupport.some(Boolean)) return null;
    const joint = settings.strength + beta;
    const best = largest(rewards);
    const inside = rewards.map((reward, i) =>
      inSupport[i] ? (beta * logRef[i] + reward - best) / joint : -Infinity,
    );
    const outside = rewards.map((reward, i) =>
      inSupport[i] ? -Infinity : logRef[i] + (reward - best) / beta,
    );
    const shares = normalised(inside);
    let [squares, crossed] = [0, 0];
    shares.forEach((log, i) => {
      if (!inSupport[i]) return;
      squares += Math.exp(2 * log);
      crossed += Math.exp(2 * log) * log;
    });
    const massOutside = logSumExp(outside);
    const odds = (joint * logSumExp(inside) + (settings.strength * crossed) / squares) / beta - massOutside;
    return shares.map((log, i) => {
      if (inSupport[i]) return logSigmoid(odds) + log;
      return massOutside === -Infinity ? -Infinity : logSigmoid(-odds) + outside[i] - massOutside;
    });
  },

  // p = exp((R + β log q − Λ)/(β + a)) in S,  exp((R + β log q − Λ)/(β − b)) elsewhere, with the Λ of Σ p = 1;
  // a is the strength and b the wrong_strength
  differential_smoothing({ logRef, rewards, good, beta, kl, settings }) {
    if (!good.some(Boolean) || kl === "forward" || settings.scale !== "none") return null;
    if (settings.wrong_strength >= beta) return null;
    const heights = rewards.map((reward, i) => reward + beta * logRef[i]);
    const temperature = (i) => (good[i] ? beta + settings.strength : beta - settings.wrong_strength);
    const masses = (level) => heights.map((height, i) => (height - level) / temperature(i));
    const step = (level) => {
      const logs = masses(level);
      const total = logSumExp(logs);
      let slope = 0;
      logs.forEach((log, i) => (slope += Math.exp(log - total) / temperature(i)));
      return level + total / slope;
    };
    return normalised(masses(climb(step, largest(heights))));
  },

  // The gain of an outcome is R (1 − p): the best fill up until the next best is as good
  darling({ logRef, rewards, beta, kl }) {
    refuseNegative(rewards);
    return crowdingTarget(logRef, rewards, rewards, beta, kl);
  },

  // The gain of an outcome is R − c p
  batch_exploration({ logRef, rewards, beta, kl, settings }) {
    const penalty = rewards.map(() => settings.strength);
    return crowdingTarget(logRef, rewards, penalty, beta, kl);
  },

  // p ∝ q in S, 0 elsewhere, at every β
  alpha_dpg({ logRef, good }) {
    const inside = logRef.map((log, i) => (good[i] ? log : -Infinity));
    return largest(inside) === -Infinity ? null : normalised(inside);
  },

  // Plain RL at rewards R/ρ, with the ρ that is then the mean reward
  max_rl(problem) {
    const { logRef, rewards } = problem;
    refuseNegative(rewards);
    const best = largest(rewards);
    const scaled = rewards.map((reward) => reward / best);
    const mean = (logs) => logs.reduce((total, log, i) => total + Math.exp(log) * scaled[i], 0);
    const least = mean(logRef);
    if (!(least > 0)) return null;
    const at = (rate) => OPTIMA.vanilla({ ...problem, rewards: scaled.map((reward) => reward / rate) });
    return at(rootOfFalling((rate) => mean(at(rate)) - rate, least, 1));
  },

  // No closed form is known
  unlikeliness: () => null,
  best_of_n: () => null,

  // Outcome marginal matching, our own: with a the strength, g uniform over S, s the shares in S and V = R + β log q,
  //   reverse KL   V + a clip(log g/s) − β log s = C in S,  so that s ∝ (g^a q^β e^R)^(1/(a + β)) without the clip;
  //                p ∝ s exp((C + shift)/β) in S,  q e^(R/β) elsewhere;  shift = (a KL(s ‖ g) − limit)₊
  //   forward KL   β q/p = Λ − R − a log(g/s) − shift in S,  Λ − R elsewhere
  outcome_matching(problem) {
    const { logRef, rewards, good, beta, kl, settings } = problem;
    const paid = good.map((isGood, i) => isGood && logRef[i] !== -Infinity);
    const number = paid.reduce((count, isPaid) => count + isPaid, 0);
    if (settings.target !== "uniform" || settings.dual_rate > 0) return null;
    if (number === 0) return OPTIMA.vanilla(problem);
    const match = {
      ...problem,
      paid,
      logTarget: -Math.log(number),
      strength: settings.strength * settings.reward_gap,
      limit: settings.max_log_ratio,
      most: settings.max_penalty * settings.reward_gap,
    };
    return kl === "reverse" ? matchedReverse(match) : matchedForward(match);
  },
};

const refuseNegative = (rewards) => {
  if (rewards.some((reward) => reward < 0)) throw new Error("it takes no negative rewards");
};

// The anchor z of MARA: the likeliest good outcome, and of these the best.
const anchorOf = ({ logRef, rewards, good }) => {
  let [log, reward] = [-Infinity, -Infinity];
  good.forEach((isGood, i) => {
    if (!isGood || logRef[i] === -Infinity || logRef[i] < log) return;
    reward = logRef[i] > log ? rewards[i] : Math.max(reward, rewards[i]);
    log = logRef[i];
  });
  return { log, reward };
};

// MARA's optimum, or a part λ of the way to it from plain RL's. Under a forward KL that of the rewards
// R̄ = β (log density − log q), whose reverse-KL optimum has this density.
const tilted = (problem, flattening) => {
  const { logRef, rewards, good, beta, kl } = problem;
  const anchor = anchorOf(problem);
  const best = kl === "reverse" ? largest(rewards) : 0; // subtracted, so that R/β keeps its digits
  const flat = anchor.log + (anchor.reward - best) / beta;
  const density = logRef.map((log, i) => {
    const plain = log + (rewards[i] - best) / beta;
    if (!good[i] || log === -Infinity) return plain;
    return flattening < 0.5 ? plain + flattening * (flat - plain) : flat - (flat - plain) * (1 - flattening);
  });
  if (kl === "reverse") return normalised(density);
  const augmented = rewards.map((reward, i) =>
    logRef[i] === -Infinity ? reward : beta * (density[i] - logRef[i]),
  );
  return forwardKlTarget(logRef, augmented, beta);
};

// MARA with the rewards whose forward-KL optimum is uniform over S:
//   R̄ = R(z) + (β/u) (q(z) − q) in S,  u = β q(z)/s the probability of each there, s as in forwardKlTarget
const correctedMara = (problem) => {
  const { logRef, rewards, good, beta } = problem;
  const anchor = anchorOf(problem);
  const paid = good.map((isGood, i) => isGood && logRef[i] !== -Infinity);
  const weights = logRef.map((log, i) => beta * Math.exp(paid[i] ? anchor.log : log));
  // R(z) is put at 0: no optimum depends on it, and β q would drown in it. All that is good counts as R(z).
  const below = rewards.map((reward, i) => (good[i] || logRef[i] === -Infinity ? 0 : anchor.reward - reward));
  let gap = Math.max(largest(weights.map((weight, i) => weight - below[i])), LEAST_WEIGHT);
  for (let steps = 0; steps < MOST_STEPS; steps++) {
    let [total, slope] = [0, 0];
    weights.forEach((weight, i) => {
      const inverse = 1 / (below[i] + gap);
      total += weight * inverse;
      slope += weight * inverse * inverse;
    });
    const rise = (total * (total - 1)) / slope;
    gap += Math.max(rise, 0);
    if (rise <= 1e-9 * gap) break;
  }
  const augmented = rewards.map((reward, i) => {
    if (!good[i]) return reward - anchor.reward;
    return paid[i] ? -gap * Math.expm1(logRef[i] - anchor.log) : 0;
  });
  return forwardKlTarget(logRef, augmented, beta);
};

const clip = (value, limit) => Math.min(limit, Math.max(-limit, value));

const matchedReverse = ({ logRef, rewards, beta, paid, logTarget, strength, limit, most }) => {
  const joint = strength + beta;
  const value = rewards.map((reward, i) => (paid[i] ? reward + beta * logRef[i] : -Infinity));
  const free = value.map((height) => (strength * logTarget + height) / joint);
  const total = logSumExp(free);
  let level = joint * total;
  let shares = free.map((log) => log - total);
  if (shares.some((log, i) => paid[i] && Math.abs(logTarget - log) > limit)) {
    const limited = (c) =>
      value.map((height, i) => {
        if (!paid[i]) return -Infinity;
        const inside = (strength * logTarget - (c - height)) / joint;
        const ratio = logTarget - inside;
        return Math.abs(ratio) > limit ? (strength * limit * Math.sign(ratio) - (c - height)) / beta : inside;
      });
    let [low, high] = [Infinity, -Infinity];
    shares.forEach((log, i) => {
      if (!paid[i]) return;
      const height = value[i] + strength * clip(logTarget - log, limit) - beta * log;
      [low, high] = [Math.min(low, height), Math.max(high, height)];
    });
    level = rootOfFalling((c) => logSumExp(limited(c)), low, high);
    shares = normalised(limited(level));
  }
  const lost = sum(
    shares.map((log, i) => (paid[i] ? -Math.exp(log) * strength * clip(logTarget - log, limit) : 0)),
  );
  const shift = Math.max(0, lost - most);
  return normalised(
    shares.map((log, i) => (paid[i] ? log + (level + shift) / beta : logRef[i] + rewards[i] / beta)),
  );
};

const matchedForward = ({ logRef, rewards, beta, paid, logTarget, strength, limit, most }) => {
  const logPull = logRef.map((log) => log + Math.log(beta / strength));
  const isOther = paid.map((isPaid, i) => !isPaid && logRef[i] !== -Infinity);
  const hasOther = isOther.some(Boolean);
  const sharesAt = (level, logGood) => {
    const slopes = new Float64Array(rewards.length);
    const logs = rewards.map((reward, i) => {
      if (!paid[i]) return -Infinity;
      const height = (level - reward) / strength - logTarget;
      const omega = wrightOmega(height + logPull[i] - logGood);
      slopes[i] = -1 / (strength * (1 + omega));
      return omega - height;
    });
    return { logs, slopes };
  };
  // The level at which the shares sum to 1: log Σ s falls and is convex, so Newton's method only rises.
  const levelAt = (logGood) => {
    let level = Infinity;
    rewards.forEach((reward, i) => {
      if (paid[i]) level = Math.min(level, reward + strength * Math.exp(logPull[i] - logTarget - logGood));
    });
    for (let steps = 0; steps < 60; steps++) {
      const { logs, slopes } = sharesAt(level, logGood);
      const total = logSumExp(logs);
      let slope = 0;
      logs.forEach((log, i) => (slope += Math.exp(log - total) * slopes[i]));
      const rise = -total / slope;
      if (!(rise > 1e-15 * (1 + Math.abs(level)))) break; // also where a huge level leaves only rounding
      level += rise;
    }
    return level;
  };
  const at = (odds) => {
    const logGood = hasOther ? logSigmoid(odds) : 0;
    const level = levelAt(logGood);
    const shares = normalised(sharesAt(level, logGood).logs);
    const lost = sum(shares.map((log, i) => (paid[i] ? -Math.exp(log) * strength * (logTarget - log) : 0)));
    const gapOf = (i) => level + Math.max(0, lost - most) - rewards[i];
    const masses = rewards.map((_, i) => {
      if (!isOther[i]) return 0;
      return gapOf(i) <= 0 ? Infinity : (beta * Math.exp(logRef[i])) / gapOf(i);
    });
    return { shares, masses };
  };
  const odds = rootOfFalling((x) => Math.exp(logSigmoid(-x)) - sum(at(x).masses), -100, 100);
  const { shares, masses } = at(odds);
  if (shares.some((log, i) => paid[i] && Math.abs(logTarget - log) > limit)) return null;
  const logGood = hasOther ? logSigmoid(odds) : 0;
  return normalised(shares.map((log, i) => (paid[i] ? logGood + log : Math.log(masses[i]))));
};
