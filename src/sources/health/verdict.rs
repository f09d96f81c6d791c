//! Pure. What an answer to a health probe means (apis.md 1.6).

use crate::{domain::ProbeOutcome, sources::http::Fault};

/// What a probe says, and why in a few words that never repeat the answer.
pub(super) type Said = (ProbeOutcome, Option<String>);

/// An HTTP status: 200 to 399 pass, as for Kubernetes' own probes. A redirect is noted and not followed.
pub(super) fn of_status(status: u16) -> Said {
    match status {
        200..=299 => (ProbeOutcome::Pass, None),
        300..=399 => (ProbeOutcome::Pass, Some(format!("HTTP {status}, not followed"))),
        _ => (ProbeOutcome::Fail, Some(format!("HTTP {status}"))),
    }
}

/// The `status` field of a JSON answer that came with a passing HTTP status: `application/health+json`
/// (draft-inadarei-api-health-check-06) and Spring Boot Actuator. `None`: the body says nothing of the kind.
pub(super) fn of_body(body: &[u8]) -> Option<Said> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let status = json.get("status")?.as_str()?.to_ascii_lowercase();
    // Only known words are repeated; the rest of the body is nobody's business.
    match status.as_str() {
        "pass" | "ok" | "up" => Some((ProbeOutcome::Pass, None)),
        "warn" | "unknown" => Some((ProbeOutcome::Pass, Some(format!("status {status}")))),
        "fail" | "error" | "down" | "out_of_service" => Some((ProbeOutcome::Fail, Some(format!("status {status}")))),
        _ => None,
    }
}

/// No answer. What lies on our side or in the name says nothing about the workload.
pub(super) fn of_fault(fault: Fault) -> Said {
    let outcome = match fault {
        Fault::Dns | Fault::Forbidden(_) | Fault::Tls | Fault::Client => ProbeOutcome::Error,
        Fault::Refused | Fault::Connect | Fault::ConnectTimeout | Fault::Timeout | Fault::Broken | Fault::TooLarge => {
            ProbeOutcome::Fail
        }
    };
    (outcome, Some(fault.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn statuses_as_kubernetes_reads_them() {
        for (status, outcome) in [
            (199, ProbeOutcome::Fail),
            (200, ProbeOutcome::Pass),
            (399, ProbeOutcome::Pass),
            (400, ProbeOutcome::Fail),
            (503, ProbeOutcome::Fail),
        ] {
            assert_eq!(of_status(status).0, outcome, "{status}");
        }
        assert_eq!(of_status(302).1.as_deref(), Some("HTTP 302, not followed"));
    }

    #[test]
    fn bodies_of_both_conventions() {
        let said = |body: &str| of_body(body.as_bytes()).map(|(outcome, _)| outcome);
        assert_eq!(said(r#"{"status":"UP","components":{}}"#), Some(ProbeOutcome::Pass));
        assert_eq!(said(r#"{"status":"warn"}"#), Some(ProbeOutcome::Pass));
        assert_eq!(said(r#"{"status":"OUT_OF_SERVICE"}"#), Some(ProbeOutcome::Fail));
        assert_eq!(said(r#"{"status":"fail"}"#), Some(ProbeOutcome::Fail));
        for silent in
            [r#"{"status":"shipped"}"#, r#"{"status":200}"#, r#"["down"]"#, r#"{"state":"down"}"#, "<html>", ""]
        {
            assert_eq!(said(silent), None, "{silent}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = of_body(&bytes);
        }
    }
}
