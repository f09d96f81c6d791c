//! Why a scenario misses its goal, as far as it is understood. Pure.

/// One sentence for a scenario that misses.
pub(super) fn why(id: &str) -> Option<&'static str> {
    REASONS.iter().find(|(known, _)| *known == id).map(|(_, why)| *why)
}

const REASONS: &[(&str, &str)] = &[
    (
        "S03",
        "The deadline is 2.4 times the information bound, and chance alone moves the last nat by a minute; where \
         the baseline comes in bursts that would have won bets, evidence is tempered, and comes later.",
    ),
    (
        "S05",
        "One point above the limit, where not knowing how many fail, and since when, is dearest: 3.2 nats on top of \
         9.2, of which a hundred requests a second bring one in ten seconds.",
    ),
    (
        "S12",
        "Three minutes after the limit is crossed 6 to 7 % of requests are slow where 5 % may be: at 200 requests a \
         second and a wide spread (sigma near 1) the information bound of the tail alone is 170 s. That typical \
         requests are slower too makes up for half of it, where a bucket bound near the median shows it.",
    ),
    ("S15", "A burst of nearly one half that ticks show as half by chance is taken for a catastrophe."),
    (
        "S32",
        "Four failed requests in a row could just rule out chance; Lastgood waits for the fifth, because it does not \
         know beforehand that nearly all will fail. Staking more on that convicts here with four (the median 23 s \
         sooner on tuning seeds), and later where a fault is small (S38 15 s, S03 3 s). One run in a hundred has no \
         four in its ten minutes, and a request that was served well between costs one more.",
    ),
    ("S36", "Readings that are up to two minutes apart are added to what S03 needs."),
    (
        "S38",
        "As S03: eight in a hundred fail where five may. The minutes before the restart are read back once a minute.",
    ),
    ("S50", "Measurements that are up to 90 seconds late are added to what S03 needs."),
    ("A12", "Where no bucket bound lies between the old tail and twice of it, nothing is seen and so nothing is said."),
    (
        "A18",
        "A service that was over-dispersed before: its evidence is tempered, and fades in the good minutes between.",
    ),
];
