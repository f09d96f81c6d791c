//! Why a scenario misses its goal, as far as it is understood. Pure.

/// One sentence for a scenario that misses.
pub(super) fn why(id: &str) -> Option<&'static str> {
    REASONS.iter().find(|(known, _)| *known == id).map(|(_, why)| *why)
}

const REASONS: &[(&str, &str)] = &[
    (
        "S03",
        "The deadline is 2.4 times the information bound; where a third of the services are over-dispersed before the \
         fault, evidence is tempered by what the baseline showed, and comes later.",
    ),
    ("S05", "One point above the limit: as S03, and the other new pods must convict without the worst one as well."),
    (
        "S12",
        "Three minutes after the limit is crossed 6 to 7 % of requests are slow where 5 % may be; between two bucket \
         bounds that is seen late, and requests above the next bound are certain but fewer.",
    ),
    (
        "S40",
        "It is convicted in time. The choice of a target refuses to go back to a revision that was itself beyond its \
         limits before the rollout, and reports instead: two rules of the design contradict each other here.",
    ),
    ("S50", "Measurements that are up to 90 seconds late are added to what S03 needs."),
    ("A12", "Where no bucket bound lies between the old tail and twice of it, nothing is seen and so nothing is said."),
    (
        "A18",
        "A service that was over-dispersed before: its evidence is tempered, and fades in the good minutes between.",
    ),
    (
        "A19",
        "The second bad rollout is compared with the pods of the first, which nobody proved good: they fail as well, \
         and it is held as if the cluster were at fault.",
    ),
];
