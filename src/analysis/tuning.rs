//! The constants of the decision, each with its source (sections of decision.md).
//!
//! What a user may change is in `Rules`; these are choices that were measured together and are
//! only sound together.

use crate::domain::Seconds;

/// Evidence that convicts: ln(1/α) for α = 1e-4, the chance of ever convicting a rollout that keeps
/// the limit, per signal family (2.3: L = 9.21).
pub(super) const LEVEL: f64 = 9.210_340_371_976_184;
/// Alternatives as multiples of the limit, and what is staked on each (2.3, grid Q). Most is staked where evidence is
/// dear: half as much again as allowed takes a minute and more to see at ten requests a second; in between, any stake
/// is outweighed by the next tick. Saves 0.9 nats of 8 % failures, 11 s at ten requests a second. The lowest two are for
/// slow creep at high traffic: without them there is no evidence at all until a fifth too much is bad, and only then
/// would the slew limit begin to count. Typical requests tell it first, and of them two in five may be slow already:
/// half as much again as that is no alternative, and a twentieth more is plain in a minute and a half (S12: 50 of 60 in
/// time without the lowest, 58 with it).
pub(super) const GRID: [(f64, f64); 8] =
    [(1.05, 0.03), (1.1, 0.07), (1.2, 0.1), (1.5, 0.3), (2.0, 0.18), (3.0, 0.08), (5.0, 0.05), (10.0, 0.03)];
/// The alternative "nearly everything is bad" (2.3), and its stake: what few requests must do with.
pub(super) const GRID_TOP: (f64, f64) = (0.9, 0.16);
/// No alternative above this (2.3).
pub(super) const GRID_MAX: f64 = 0.95;
/// Distance of two starts of the test (2.3: every 60 s).
pub(super) const START_EVERY: Seconds = 60.0;
/// Most starts of one watch; a longer watch spreads them (2.10: ≤ 31).
pub(super) const STARTS: f64 = 30.0;
/// Half-life of the prior weight of a start by its distance from the first one (2.3: 10 min).
pub(super) const START_HALF_LIFE: Seconds = 600.0;
/// Share of the prior for starts after the planned watch, which goes on when requests are few.
/// Costs ln(1/0.95) ≈ 0.05 of evidence inside the watch; without it a late fault would have to
/// outweigh the whole clean watch before it.
pub(super) const LATE_PRIOR: f64 = 0.05;
/// Share of the prior for the very first start: many faults begin with the first request.
pub(super) const FIRST_PRIOR: f64 = 0.1;
/// Share of the prior for starts by the tick, evenly over the planned watch. Little on each, which is enough where
/// requests are many; where they are few, the minutes do as well.
pub(super) const TICK_PRIOR: f64 = 0.05;
/// Share of the prior for starts right after a tick that looked bad: a fault is seen in its first tick, and what is
/// staked on the next one is fifty times what a start by the clock could have.
pub(super) const SUSPECT_PRIOR: f64 = 0.65;
/// Of what is left of that, each such start gets this share, down to the least that is worth a start; no more than
/// [`SUSPECTS`] come of it. Most on the first: where failures are rare before a fault, its first tick is the first that
/// looks bad (0.4 of 0.5 convicted S03 7 s later, 134 instead of 136 of 150 in time).
pub(super) const SUSPECT_SHARE: f64 = 0.6;
/// See [`SUSPECT_SHARE`].
pub(super) const SUSPECT_LEAST: f64 = 0.004;
/// See [`SUSPECT_SHARE`].
pub(super) const SUSPECTS: usize = 10;
/// A tick looks bad when the share that it shows explains it so many nats better than the limit does.
pub(super) const SUSPECT: f64 = 0.3;
/// A start by the tick is lost when what it adds to the mixture has sunk below this (natural log).
pub(super) const LOST: f64 = -14.0;
/// A first reading stands for this much bad time at most: three scrapes.
pub(super) const FIRST_READING: Seconds = 45.0;
/// Evidence halves in this time while nothing adds to it (2.3).
pub(super) const FADE: Seconds = 300.0;
/// The same in ticks without any request.
pub(super) const FADE_SILENT: Seconds = 1200.0;
/// The user's rule must hold now: ratio over this time (2.3, fire1).
pub(super) const NOW: Seconds = 60.0;
/// And it must still go on: ratio over the last readings, one of each pod and a little more.
pub(super) const STILL: Seconds = 20.0;
/// Errors short of catastrophic must also show in readings that begin this long after their pods were Ready (a
/// quarter of a short watch): a cold start that each pod of a rolling update repeats is one burst after another, and
/// each is as harmless as the first (S14: 30 s, A21: 40 s). By readings, not by looks: one that was missed makes the
/// next one reach back.
pub(super) const COLD_START: Seconds = 40.0;
/// How many nats the share that warm pods show in the last minute must explain them better than the limit does, while
/// cold ones serve beside them: as much as convicts. Errors that come in bursts make a quarter of a minute of seven
/// nats out of nothing.
pub(super) const WARM: f64 = LEVEL;
/// The same when none is cold any more.
pub(super) const WARM_ALONE: f64 = 0.5;
/// A conviction is only released by a ratio within the limit over this time (hysteresis), or by
/// evidence below half the level.
pub(super) const RELEASE: Seconds = 180.0;
/// A tick is as bad as others, of its minute or in its worst half, when its share of bad requests is at least this much
/// of theirs: four ticks make a minute of bad time only if chance does not take a little off each.
pub(super) const AS_BAD: f64 = 0.8;
/// What is not surely half must have gone on for longer than a burst of 40 s, and what chance adds to it (S15, A22).
pub(super) const BURST: Seconds = 48.0;
/// In this time every target is read twice, and chance has little say in which was the worst.
pub(super) const TWO_SCRAPES: Seconds = 30.0;
/// A tick counts as catastrophic from this share of bad requests (2.3, `B_t`).
pub(super) const HALF: f64 = 0.5;
/// Two ticks in a row with [`HALF`] are catastrophic when both together surely show this much: 40 % of few requests
/// look like half now and then.
pub(super) const NEARLY_HALF: f64 = 0.44;
/// Requests that make one catastrophic tick believable alone (2.3).
pub(super) const HALF_REQUESTS: f64 = 30.0;
/// From this share on, in a tick with [`HALF_REQUESTS`], the catastrophic pace is taken times
/// [`NEARLY_ALL_PACE`]: 25 s instead of 30 s for errors. A burst of 15 s stays immune whatever fails in it,
/// and one of 30 s always fired; what is gained is that 100 % errors at 5 s ticks end within 30 s and not
/// after them.
pub(super) const NEARLY_ALL: f64 = 0.9;
/// See [`NEARLY_ALL`].
pub(super) const NEARLY_ALL_PACE: f64 = 25.0 / 30.0;
/// Old pods that served this lately serve in the same seconds: a scrape and a little more.
pub(super) const BESIDE: Seconds = 20.0;
/// Requests of new pods that the pace beside clean old pods needs in a tick.
pub(super) const BESIDE_REQUESTS: f64 = 5.0;
/// Seconds of bad time to a conviction by errors: [`NEARLY_ALL`] beside clean old pods, catastrophic,
/// otherwise (2.3, `B_t`; the first from the open questions: beside clean old pods no burst of the
/// cluster's can be to blame, so what is left is a burst of 10 s that hits new pods only).
pub(super) const ERROR_PACE: [Seconds; 3] = [10.0, 30.0, 60.0];
/// The same for latency: by requests that are certainly above the cut, and by interpolated ones,
/// which need twice the time (2.4).
pub(super) const LATENCY_PACE: [Seconds; 2] = [60.0, 120.0];
/// Requests of one tick that count; more are tempered down to it (2.3, cap).
pub(super) const REQUESTS_PER_TICK: f64 = 10_000.0;
/// Largest over-dispersion that tempers (open questions: cap φ ≤ 20).
pub(super) const DISPERSION_MAX: f64 = 20.0;
/// What a bet against the limit became on average in a bin of the baseline, up to which nothing is tempered: were
/// the new pods no worse than that, the evidence would be a fair bet however bursty they are. Half leaves room for
/// bursts that half an hour did not show; so does [`BURSTIER`].
pub(super) const HARMLESS: f64 = 0.5;
/// The excess of φ over 1 is multiplied with this: half an hour of rare bursts rather under- than overstates them.
pub(super) const BURSTIER: f64 = 1.5;
/// Bins and errors that an estimate of over-dispersion needs.
pub(super) const DISPERSION_MIN: f64 = 10.0;
/// Length of the window before the rollout (2.4: 30 min).
pub(super) const BASELINE: Seconds = 1800.0;
/// Width of a bin of that window: one tick of the measured behaviour.
pub(super) const BASELINE_BIN: Seconds = 15.0;
/// "It was so before" looks this far back (2.5.4), as do the vetoes of hard facts (2.2).
pub(super) const BEFORE: Seconds = 600.0;
/// Fewer requests than this are no traffic (2.5.1).
pub(super) const SOME_TRAFFIC: f64 = 20.0;
/// Confidence of the bound that replaces a limit which was broken before (2.3).
pub(super) const BASELINE_CONFIDENCE: f64 = 0.99;
/// Slow samples that a tail quantile of the baseline needs (2.4: ≥ 20 ⇒ 400 requests for p95).
pub(super) const TAIL_SAMPLES: f64 = 20.0;
/// Requests that the median of the baseline needs (2.4).
pub(super) const MEDIAN_REQUESTS: f64 = 40.0;
/// Latency of a pod counts only this long after its first Ready (2.4), a quarter of a short watch.
pub(super) const WARM_UP: Seconds = 60.0;
/// Weight of the prior of the two-arm split (k ≈ 10) and the evidence that it needs: ln 20 (2.5.1).
pub(super) const SPLIT_PRIOR: f64 = 10.0;
/// See [`SPLIT_PRIOR`].
pub(super) const SPLIT_LEVEL: f64 = 2.995_732_273_553_991;
/// Old pods that left before they could be compared failed as these do, when their share of bad requests was at
/// least this part of the new ones': the bin in which it began may be calm for the most part.
pub(super) const LAST_WORDS: f64 = 0.25;
/// Most of the way to a conviction that one reading can go: a burst shorter than the time between two readings is
/// one reading. (Not beside clean old pods: then it is no burst of the cluster's.)
pub(super) const ONE_READING: f64 = 0.75;
/// New pods from which on one of them can be left out (2.5.5).
pub(super) const CROWD: usize = 3;
/// Share of the bad requests that makes a node the culprit (2.5.2).
pub(super) const NODE_SHARE: f64 = 0.8;
/// Old pods without requests for this long are gone as far as gate 1 is concerned (2.3: 3 min).
pub(super) const SILENT: Seconds = 180.0;
/// The callers stand in for pods that have been silent so long; for new ones, as long as a gap is, at least (2.3: 3 min;
/// a minute less undoes nothing more that is clean, and A08 a minute earlier).
pub(super) const CALLERS_AFTER: Seconds = 120.0;
/// Assumed time between ticks until it is known.
pub(super) const INTERVAL: Seconds = 15.0;
/// A gap of more than this many intervals drops what lies in it, and freezes (2, theory; 2.5.6).
pub(super) const GAP_INTERVALS: f64 = 3.0;
/// No source reads its counters more seldom than this; longer spacings are gaps themselves.
pub(super) const CADENCE_MAX: Seconds = 120.0;
/// A pod created this little before the rollout began still belongs to it (clock differences).
pub(super) const CREATED_SLACK: Seconds = 10.0;
/// Share of new pods that makes a hard fact (2.2).
pub(super) const FACT_SHARE: f64 = 0.25;
/// Restarts within [`CRASH_WINDOW`] that make a crash loop (2.2).
pub(super) const CRASHES: u32 = 3;
/// See [`CRASHES`].
pub(super) const CRASH_WINDOW: Seconds = 300.0;
/// A looping pod that stays Ready for this long has recovered.
pub(super) const CRASH_RECOVERED: Seconds = 60.0;
/// A pod that cannot start its container for this long is stuck (2.2).
pub(super) const STUCK: Seconds = 60.0;
/// Probe failures in a row on every new pod, and through the Service (2.2).
pub(super) const PROBE_FAILS: u32 = 3;
/// See [`PROBE_FAILS`].
pub(super) const PROBE_FAILS_SERVICE: u32 = 5;
/// A probe counts this long after the pod's first Ready, a quarter of a short watch.
pub(super) const PROBE_GRACE: Seconds = 10.0;
/// A run of failures must be rarer than this under the flakiness that the probe showed otherwise
/// (S20: 10 % flaky ⇒ 6 in a row; three in a row would happen in one watch of nine).
pub(super) const PROBE_CHANCE: f64 = 1e-6;
/// Nothing measured this long after the first new pod was Ready is worth saying.
pub(super) const NO_DATA: Seconds = 120.0;
/// A rollout with few requests passes after this time instead (2.6: 3 h).
pub(super) const PASS_ANYWAY: Seconds = 3.0 * 3600.0;
/// Confidence of the upper bound after an undo, and the clean requests that suffice (2.7).
pub(super) const RECOVERY_CONFIDENCE: f64 = 0.95;
/// See [`RECOVERY_CONFIDENCE`].
pub(super) const RECOVERY_CLEAN: f64 = 59.0;
/// Requests that "did not help" needs (2.7).
pub(super) const RECOVERY_REQUESTS: f64 = 100.0;
/// Window of the recovery's ratio: what a slow start leaves behind must not count for ever.
pub(super) const RECOVERY_WINDOW: Seconds = 300.0;
/// Pods that one workload may have under watch; the rest is ignored and counted.
pub(super) const PODS_MAX: usize = 10_000;
/// Counters of pods that nobody has introduced yet: kept for this many pods, this many each.
pub(super) const UNCLAIMED_PODS: usize = 512;
/// See [`UNCLAIMED_PODS`].
pub(super) const UNCLAIMED_EACH: usize = 4;
/// Width of a bin of what is remembered of a workload that is not on trial: one tick.
pub(super) const PEER_BIN: Seconds = 15.0;
/// How far back that goes: the window before a rollout, and the minutes in which it breaks.
pub(super) const PEER_MEMORY: Seconds = 2400.0;
/// Peers that break within this time of ours broke with it (2.5.2: ±3 min).
pub(super) const PEER_ONSET: Seconds = 180.0;
/// Evidence that makes a peer's break more than chance: ln 100. Two of three peers at least must show it.
pub(super) const PEER_LEVEL: f64 = 4.605_170_185_988_091;
/// Evidence with which a peer is on its way there: ln 10.
pub(super) const PEER_RISING: f64 = std::f64::consts::LN_10;
/// Bad requests that a peer would show by now had it broken as ours did; with fewer it cannot tell.
pub(super) const PEER_EXPECTED: f64 = 3.0;
/// Peers that gate 2 needs, the share of them that must break, and how many at least (2.5.2).
pub(super) const PEERS_LEAST: usize = 3;
/// See [`PEERS_LEAST`].
pub(super) const PEERS_SHARE: f64 = 0.3;
/// See [`PEERS_LEAST`].
pub(super) const PEERS_BROKEN: usize = 2;
/// As long after the onset, one peer that broke as well is a reason to wait for what the others do: what breaks a
/// cluster does not reach everybody in the same seconds.
pub(super) const PEERS_SETTLE: Seconds = 90.0;
/// So long at most a conviction waits for peers that cannot be read, from the first read that failed on.
pub(super) const PEERS_UNREAD: Seconds = 60.0;
/// Workloads that are remembered without a trial, and pods of all of them together.
pub(super) const PEERS_MAX: usize = 1024;
/// See [`PEERS_MAX`].
pub(super) const PEER_PODS_MAX: usize = 8192;
/// Nodes on which pods of peers are tallied.
pub(super) const NODES_MAX: usize = 5000;
/// Two onsets this close are the same: two scrapes lie between them at most.
pub(super) const ONSET_SLACK: Seconds = 30.0;
/// Calls that the service graph is followed deep (4.1: depth ≤ 4), and how many of them are kept.
pub(super) const GRAPH_DEPTH: usize = 6;
/// See [`GRAPH_DEPTH`].
pub(super) const EDGES_MAX: usize = 50_000;
/// Evidence from which on a callee on trial is suspected before it is convicted: a quarter of the level.
pub(super) const RISING: f64 = LEVEL / 4.0;
/// Who is waiting for another rollout's undo, though its own old pods convict it, waits no longer than this.
pub(super) const PATIENCE: Seconds = 300.0;
/// Nats by which one of several candidates must lead to be blamed; else it is the most recent one (2.5.7).
pub(super) const BLAME_LEAD: f64 = 3.0;
/// An old pod that passed a probe this recently passes it now.
pub(super) const OLD_PASS: Seconds = 60.0;
/// Pods whose workload is remembered; above that those that nobody knows any more are forgotten.
pub(super) const OWNERS_MAX: usize = 32_768;
/// Events of new issues that are more than a stray one (S49: 3 are, 3,000 are not).
pub(super) const ISSUE_EVENTS: u64 = 100;
/// Error trackers that one rollout may have.
pub(super) const TRACKERS_MAX: usize = 8;
/// Evidence that convicts together with a loud error tracker: half of the level.
pub(super) const SECONDED: f64 = LEVEL / 2.0;
/// Windows that may be like the one that is judged: a day and a week before it (2.4).
pub(super) const SEASONS: [Seconds; 2] = [86_400.0, 7.0 * 86_400.0];
/// Width of a bin of such a window: long enough for a tail, short enough that a ramp is not levelled.
pub(super) const SEASON_BIN: Seconds = 600.0;
/// How long after the rollout's time of day such a window reaches.
pub(super) const SEASON_AFTER: Seconds = 3600.0;
/// What peers remember of latency for the next day: a day and the window around it.
pub(super) const SEASON_MEMORY: Seconds = 86_400.0 + BASELINE + SEASON_BIN;
/// What a peer was like right before the minutes in question.
pub(super) const LAST_MINUTES: Seconds = 120.0;
/// Undo decisions within [`BREAKER_WINDOW`] after which no further rollout is undone (2.5.7).
pub(super) const BREAKER: usize = 3;
/// See [`BREAKER`].
pub(super) const BREAKER_WINDOW: Seconds = 600.0;
/// A stretch of bad minutes that is compared with those before the rollout is this long at most.
pub(super) const STRETCH: Seconds = 300.0;
/// Shares of slow requests between which a bucket bound can stand for the limit's quantile.
pub(super) const CUT_SHARES: std::ops::RangeInclusive<f64> = 0.01..=0.3;
/// The same for the median: what is hardly slower than the tail's bound says nothing of its own.
pub(super) const TYPICAL_SHARES: std::ops::RangeInclusive<f64> = 0.1..=0.7;
/// Standard errors by which that share is taken higher than measured: rather too high than too low (one in ten is
/// not), but each more is seconds of a slow creep.
pub(super) const CUT_ERRORS: f64 = 1.281_551_565_544_6;
/// Width of a bin of a peer's latency.
pub(super) const LATENCY_BIN: Seconds = 30.0;
/// Requests on either side of a bucket bound from which on its place in the distribution is known.
pub(super) const PROBIT_LEAST: f64 = 20.0;
/// Share of its own length that a stretch before the rollout must last to excuse one after it.
pub(super) const STRETCH_LEAST: f64 = 0.6;
/// Evidence that the worst pod is worse than the others, or cold pods than warm ones, below which they are alike: ln 3.
pub(super) const ALIKE: f64 = 1.098_612_288_668_11;
/// Distance of two readings of a pod's memory at least (they are asked for every minute), and how many are kept.
pub(super) const USAGE_EVERY: Seconds = 45.0;
/// See [`USAGE_EVERY`].
pub(super) const USAGE_MAX: usize = 40;
/// Readings that a slope needs.
pub(super) const USAGE_LEAST: usize = 8;
/// Standard errors of Kendall's S that a slope must be away from none: one in 1,500 by chance.
pub(super) const LEAK_SURE: f64 = 3.2;
/// What a process takes in its first minutes is no leak (a quarter of a short watch).
pub(super) const LEAK_WARM_UP: Seconds = 300.0;
/// Pods of either side that are looked at.
pub(super) const LEAK_PODS: usize = 20;
/// Distance of two looks at a rollout whose watch is over (2.6: 5-min ticks), seconds.
pub const LATE_EVERY: Seconds = 300.0;
