//! What was normal before the rollout. Pure.

use super::{
    bounds,
    counter::Tally,
    histogram::{Histogram, Quantile},
    hypothesis::Hypothesis,
    series::Series,
    tuning::*,
};
use crate::domain::{LatencyLimit, Seconds};
use statrs::function::beta::ln_beta;
use std::collections::{BTreeMap, btree_map::Entry};

/// Shares of bad requests below this are none.
const SHARE_LEAST: f64 = 1e-6;
const BINS: usize = (BASELINE / BASELINE_BIN) as usize;

/// Counts of the pods that were serving, before the rollout began.
#[derive(Debug, Clone)]
pub(super) struct Baseline {
    t0: Seconds,
    /// Newest first.
    bins: Vec<Tally>,
    latency: Option<Histogram>,
    /// Everything since the old pods started, from the first reading of each.
    lifetime: Tally,
    lifetime_latency: Option<Histogram>,
    /// A day and a week before, by bins of ten minutes.
    seasons: BTreeMap<i64, Histogram>,
}

/// The same time of day as that of a rollout that began at `t0`, a day and a week before: (from, to] of each.
pub fn seasons(t0: Seconds) -> impl Iterator<Item = (Seconds, Seconds)> {
    SEASONS.iter().map(move |ago| (t0 - ago - BASELINE, t0 - ago + SEASON_AFTER))
}

/// The bin of a season that a time is in.
pub(super) fn season_bin(t: Seconds) -> i64 {
    (t / SEASON_BIN).ceil().clamp(-1e15, 1e15) as i64
}

/// Which counts stand for "before".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    /// The 30 minutes before the rollout.
    Window,
    /// Everything since the old pods started: nothing else was measured.
    Lifetime,
    /// The same time of day, a day or a week before.
    Season,
}

/// The error limit as it applies to this rollout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ErrorBaseline {
    pub(super) theta: f64,
    pub(super) before: Tally,
    pub(super) span: Span,
    pub(super) dispersion: f64,
}

/// The cut that slow requests lie above.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cut {
    pub(super) seconds: f64,
    pub(super) theta: f64,
    pub(super) quantile: f64,
    /// What that quantile was before.
    pub(super) before: f64,
    pub(super) before_tally: Tally,
    pub(super) span: Span,
}

/// Whether latency can be judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum CutState {
    Known(Cut),
    /// The limit lies above the last finite bucket bound.
    Saturated(f64),
    /// Not enough requests before the rollout.
    Missing,
}

impl Baseline {
    pub(super) fn new(t0: Seconds) -> Self {
        Self {
            t0,
            bins: vec![Tally::default(); BINS],
            latency: None,
            lifetime: Tally::default(),
            lifetime_latency: None,
            seasons: BTreeMap::new(),
        }
    }

    /// Whether `t` is at the same time of day as the rollout, a day or a week before.
    pub(super) fn in_season(&self, t: Seconds) -> bool {
        seasons(self.t0).any(|(from, to)| t > from && t <= to)
    }

    /// Adds what was measured then; a bin is all of it or none.
    pub(super) fn add_season(&mut self, bin: i64, histogram: &Histogram) {
        match self.seasons.entry(bin) {
            Entry::Occupied(mut sum) => {
                sum.get_mut().add(histogram);
            }
            Entry::Vacant(free) => {
                free.insert(histogram.clone());
            }
        }
    }

    pub(super) fn covers(&self, t: Seconds) -> bool {
        t <= self.t0 && t > self.t0 - BASELINE
    }

    pub(super) fn add(&mut self, t: Seconds, tally: Tally) {
        let bin = ((self.t0 - t) / BASELINE_BIN).floor().max(0.0) as usize;
        if let Some(slot) = self.bins.get_mut(bin) {
            *slot += tally;
        }
    }

    pub(super) fn add_latency(&mut self, histogram: &Histogram) {
        merge(&mut self.latency, histogram);
    }

    pub(super) fn add_lifetime(&mut self, tally: Tally) {
        self.lifetime += tally;
    }

    pub(super) fn add_lifetime_latency(&mut self, histogram: &Histogram) {
        merge(&mut self.lifetime_latency, histogram);
    }

    /// The ten minutes right before the rollout (gate 4).
    pub(super) fn last_minutes(&self) -> Tally {
        self.bins.iter().take((BEFORE / BASELINE_BIN) as usize).copied().sum()
    }

    /// The window, in order of time.
    pub(super) fn history(&self) -> Series {
        let mut series = Series::default();
        for (i, tally) in self.bins.iter().enumerate().rev().filter(|(_, tally)| tally.total > 0.0) {
            series.add(self.t0 - i as f64 * BASELINE_BIN, *tally);
        }
        series
    }

    /// What stands for "before": the window if it has requests to speak of.
    pub(super) fn before(&self) -> (Tally, Span) {
        let window: Tally = self.bins.iter().copied().sum();
        if window.total >= SOME_TRAFFIC || self.lifetime.total < SOME_TRAFFIC {
            (window, Span::Window)
        } else {
            (self.lifetime, Span::Lifetime)
        }
    }

    /// What was usual, and the limit that follows from it.
    pub(super) fn errors(&self, limit: f64) -> ErrorBaseline {
        let (before, span) = self.before();
        let broken = before.total >= SOME_TRAFFIC && before.ratio().is_some_and(|ratio| ratio > limit);
        let dispersion = self.dispersion(limit);
        let theta = if broken {
            // Errors that come in bursts tell less of their mean than as many single ones.
            let (bad, total) = (before.bad / dispersion, before.total / dispersion);
            limit.max(bounds::upper(bad, total, BASELINE_CONFIDENCE)).min(1.0 - 1e-6)
        } else {
            limit
        };
        ErrorBaseline { theta, before, span, dispersion }
    }

    /// φ = χ²/df of the bins: how much burstier than chance errors come here; 1 where the evidence would have fallen
    /// in these bins all the same, so that no burst of this kind can add up to a conviction.
    fn dispersion(&self, limit: f64) -> f64 {
        let sum: Tally = self.bins.iter().copied().sum();
        let Some(p) = sum.ratio().filter(|p| *p > 0.0 && *p < 1.0) else { return 1.0 };
        let used: Vec<&Tally> = self.bins.iter().filter(|bin| bin.total > 0.0).collect();
        let df = used.len() as f64 - 1.0;
        if df < DISPERSION_MIN || sum.bad < DISPERSION_MIN {
            return 1.0;
        }
        let chi: f64 = used.iter().map(|bin| (bin.bad - bin.total * p).powi(2) / (bin.total * p * (1.0 - p))).sum();
        let phi = 1.0 + BURSTIER * (chi / df - 1.0).max(0.0);
        if phi <= 1.0 {
            return 1.0;
        }
        // With few requests a bin the estimate is not worth more; with many it is exact, and grows with them.
        let most = DISPERSION_MAX.max(sum.total / used.len() as f64 / DISPERSION_MAX);
        let per_bin = sum.total / used.len() as f64;
        let hypothesis = Hypothesis::new(limit);
        let seen =
            used.iter().map(|bin| hypothesis.log_lr(**bin).exp().min(most_bet())).sum::<f64>() / used.len() as f64;
        let harmless = seen <= HARMLESS && likely_bet(&hypothesis, p, per_bin, phi) <= HARMLESS;
        if harmless { 1.0 } else { phi.min(most) }
    }

    /// The cut for a latency limit (2.4): the limit's quantile, or the median when it was measured
    /// too thinly for its tail.
    pub(super) fn cut(&self, limit: LatencyLimit) -> CutState {
        let tail = TAIL_SAMPLES / (1.0 - limit.quantile).max(1e-6);
        let candidates = [(&self.latency, Span::Window), (&self.lifetime_latency, Span::Lifetime)];
        for (quantile, least) in [(limit.quantile, tail), (0.5, MEDIAN_REQUESTS)] {
            for (histogram, span) in candidates {
                let Some(histogram) = histogram.as_ref().filter(|h| h.total() >= least) else { continue };
                return self.season(cut_of(histogram, quantile, limit, span), (quantile, least), limit);
            }
        }
        CutState::Missing
    }

    /// The same increase of the median, measured over the same time; nothing where the limit is about the median itself.
    pub(super) fn typical(&self, tail: &Cut, limit: LatencyLimit) -> Option<Cut> {
        let histogram = if tail.span == Span::Lifetime { &self.lifetime_latency } else { &self.latency };
        let histogram = histogram.as_ref().filter(|_| tail.quantile > 0.5)?;
        match self.season(cut_of(histogram, 0.5, limit, Span::Window), (0.5, MEDIAN_REQUESTS), limit) {
            CutState::Known(cut) if TYPICAL_SHARES.contains(&cut.theta) => Some(cut),
            _ => None,
        }
    }

    /// The highest cut of all windows that are like this one: a day may begin slowly every day (S23).
    fn season(&self, cut: CutState, (quantile, least): (f64, f64), limit: LatencyLimit) -> CutState {
        let CutState::Known(now) = cut else { return cut };
        let then = self.seasons.values().filter(|h| h.total() >= least);
        let then = then.filter_map(|h| match cut_of(h, quantile, limit, Span::Season) {
            CutState::Known(cut) => Some(cut),
            _ => None,
        });
        let highest = then.chain([now]).reduce(|a, b| if b.before >= a.before { b } else { a });
        CutState::Known(highest.unwrap_or(now))
    }
}

fn cut_of(histogram: &Histogram, quantile: f64, limit: LatencyLimit, span: Span) -> CutState {
    let before = match histogram.quantile(quantile) {
        Quantile::At(seconds) => seconds,
        Quantile::Saturated(bound) => return CutState::Saturated(bound),
        Quantile::Empty => return CutState::Missing,
    };
    let seconds = (before * (1.0 + limit.max_increase)).max(limit.floor.as_secs_f64());
    let Some(above) = histogram.above(seconds) else { return CutState::Saturated(seconds) };
    let total = histogram.total();
    if let Some((bound, theta)) = on_a_bound(histogram, seconds, (quantile, before), limit) {
        let slower = histogram.above(bound).map_or(0.0, |above| above.interpolated);
        return CutState::Known(Cut {
            seconds: bound,
            theta,
            quantile,
            before,
            before_tally: Tally::new(slower, total),
            span,
        });
    }
    CutState::Known(Cut {
        seconds,
        theta: 1.0 - quantile,
        quantile,
        before,
        before_tally: Tally::new(above.interpolated, total),
        span,
    })
}

/// The bucket bound nearest to a cut, and the share of requests that may be slower than it. On a bound nothing
/// of the new pods needs to be guessed; what may be slower is what was slower than the same bound divided by
/// the allowed increase. That share comes from half an hour of counts, linear inside its bucket, which errs to
/// the high side where a tail falls, and rather high than low by chance.
fn on_a_bound(
    histogram: &Histogram,
    cut: f64,
    (quantile, before): (f64, f64),
    limit: LatencyLimit,
) -> Option<(f64, f64)> {
    let factor = cut / before;
    let floor = limit.floor.as_secs_f64();
    let far = |bound: &f64| (bound / cut).ln().abs();
    let fits = histogram.bounds().filter(|bound| *bound > 0.0 && bound.is_finite() && *bound >= floor);
    let shares = if quantile > 0.5 { CUT_SHARES } else { TYPICAL_SHARES };
    let (bound, share) = fits
        .filter_map(|bound| {
            let slower = histogram.above(bound / factor)?.interpolated;
            let share = bounds::score(slower, histogram.total(), CUT_ERRORS).high;
            shares.contains(&share).then_some((bound, share))
        })
        .min_by(|a, b| far(&a.0).total_cmp(&far(&b.0)))?;
    factor.is_finite().then_some((bound, share))
}

/// What the slew limit lets a bet become in one bin.
fn most_bet() -> f64 {
    (LEVEL * BASELINE_BIN / ERROR_PACE[2]).exp()
}

/// What a bet against the limit becomes on average in a bin of so many requests, where the share of bad ones is drawn
/// anew for each (a beta distribution with mean `p`) and makes their counts so much burstier than chance. The bins
/// that were seen hardly ever hold the worst that such a service does.
fn likely_bet(hypothesis: &Hypothesis, p: f64, requests: f64, phi: f64) -> f64 {
    const POINTS: u32 = 200;
    let precision = requests / (phi - 1.0).max(1e-6) - 1.0;
    if precision <= 0.0 || precision.is_nan() {
        return f64::INFINITY;
    }
    let (a, b) = (precision * p, precision * (1.0 - p));
    // Even steps of ln(share): near 0 the density may be infinite, and its tail decides.
    let step = -SHARE_LEAST.ln() / f64::from(POINTS);
    let (mut all, mut bet) = (0.0, 0.0);
    for i in 0..POINTS {
        let log = SHARE_LEAST.ln() + step * (f64::from(i) + 0.5);
        let share = log.exp();
        let density = (a * log + (b - 1.0) * (-share).ln_1p() - ln_beta(a, b)).exp() * step;
        all += density;
        bet += density * hypothesis.bet(share, requests).min(most_bet());
    }
    if all > 0.0 { bet / all.max(1.0) } else { f64::INFINITY }
}

/// The cut for a latency limit by one histogram, as [`Baseline::cut`].
pub(super) fn cut(histogram: Option<&Histogram>, limit: LatencyLimit) -> CutState {
    let tail = TAIL_SAMPLES / (1.0 - limit.quantile).max(1e-6);
    for (quantile, least) in [(limit.quantile, tail), (0.5, MEDIAN_REQUESTS)] {
        if let Some(histogram) = histogram.filter(|h| h.total() >= least) {
            return cut_of(histogram, quantile, limit, Span::Window);
        }
    }
    CutState::Missing
}

pub(super) fn merge(into: &mut Option<Histogram>, histogram: &Histogram) {
    match into {
        // Another layout is another version's: the first one seen stands.
        Some(sum) => {
            sum.add(histogram);
        }
        None => *into = Some(histogram.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    fn filled(ratio: f64, per_bin: f64) -> Baseline {
        let mut baseline = Baseline::new(1800.0);
        for i in 0..120 {
            baseline.add(1800.0 - f64::from(i) * 15.0, Tally::new(ratio * per_bin, per_bin));
        }
        baseline
    }

    #[test]
    fn the_limit_is_the_users_unless_it_was_broken_before() {
        assert!((filled(0.01, 100.0).errors(0.05).theta - 0.05).abs() < 1e-12);
        assert!((filled(0.05, 100.0).errors(0.05).theta - 0.05).abs() < 1e-12);
        let theta = filled(0.07, 100.0).errors(0.05).theta;
        assert!(theta > 0.07 && theta < 0.08, "{theta}");
        assert!((Baseline::new(0.0).errors(0.05).theta - 0.05).abs() < 1e-12);
    }

    #[test]
    fn all_failing_before_leaves_nothing_to_break() {
        assert!(filled(1.0, 10.0).errors(0.05).theta > 0.95);
    }

    #[test]
    fn dispersion_tells_bursts_from_chance() {
        let mut random = Random::new(7);
        let (mut steady, mut bursty) = (Baseline::new(1800.0), Baseline::new(1800.0));
        for i in 0..120 {
            let t = 1800.0 - f64::from(i) * 15.0;
            steady.add(t, Tally::new(f64::from(random.binomial(150, 0.03)), 150.0));
            bursty.add(t, Tally::new(if i % 10 == 0 { 45.0 } else { 0.0 }, 150.0));
        }
        assert!(steady.dispersion(0.05) < 1.5, "{}", steady.dispersion(0.05));
        assert!((bursty.dispersion(0.05) - DISPERSION_MAX).abs() < 1e-9);
    }

    #[test]
    fn outside_the_window_nothing_counts() {
        let mut baseline = Baseline::new(3600.0);
        assert!(!baseline.covers(1800.0) && !baseline.covers(3601.0) && baseline.covers(3600.0));
        baseline.add(100.0, Tally::new(50.0, 100.0));
        assert!(baseline.errors(0.05).before.total.abs() < 1e-12);
    }
}
