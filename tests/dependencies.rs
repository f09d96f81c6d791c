//! One TLS stack, one HTTP client: what `Cargo.lock` may and may not hold.
//!
//! Two crypto providers at once make rustls' process default ambiguous, and one careless default
//! feature is enough to get a second one.

/// `(name, version)` of every locked package.
fn packages(lock: &str) -> Vec<(&str, &str)> {
    lock.split("[[package]]")
        .skip(1)
        .filter_map(|block| {
            let field = |key: &str| {
                block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'))
            };
            Some((field("name")?, field("version")?))
        })
        .collect()
}

fn version(text: &str) -> Vec<u64> {
    text.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
}

/// What is wrong with a lock file; empty when nothing is.
fn faults(lock: &str) -> Vec<String> {
    const BANNED: [&str; 3] = ["openssl", "native-tls", "aws-lc"];
    const ONCE: [&str; 4] = ["reqwest", "rustls", "ring", "kube-client"];

    let packages = packages(lock);
    let mut faults = Vec::new();
    for (name, _) in &packages {
        // openssl-probe only looks for the folder of the CA certificates.
        if BANNED.iter().any(|b| name.starts_with(b)) && *name != "openssl-probe" {
            faults.push(format!("{name} is a second TLS stack"));
        }
    }
    for name in ONCE {
        let found: Vec<&str> = packages.iter().filter(|(n, _)| *n == name).map(|(_, v)| *v).collect();
        if found.len() != 1 {
            faults.push(format!("{name} must be locked exactly once, found {found:?}"));
        }
    }
    // Earlier ones write terminal escapes from log fields through to the terminal (RUSTSEC-2025-0055).
    match packages.iter().find(|(n, _)| *n == "tracing-subscriber") {
        Some((_, v)) if version(v) >= vec![0, 3, 20] => {}
        other => faults.push(format!("tracing-subscriber must be 0.3.20 or newer, found {other:?}")),
    }
    faults
}

const LOCK: &str = include_str!("../Cargo.lock");

#[test]
fn there_is_one_tls_stack_and_one_http_client() {
    assert!(packages(LOCK).len() > 100, "Cargo.lock was not understood");
    assert_eq!(faults(LOCK), Vec::<String>::new());
}

#[test]
fn every_fault_is_seen() {
    let with = |name: &str, version: &str| {
        faults(&format!("{LOCK}\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n"))
    };
    for (name, version) in [
        ("openssl", "0.10.0"),
        ("openssl-sys", "0.9.0"),
        ("native-tls", "0.2.0"),
        ("aws-lc-rs", "1.19.0"),
        ("aws-lc-sys", "0.30.0"),
        ("reqwest", "0.12.0"),
        ("rustls", "0.22.0"),
        ("ring", "0.16.0"),
    ] {
        assert_eq!(with(name, version).len(), 1, "{name}");
    }
    assert!(with("openssl-probe", "0.3.0").is_empty());
    let old = LOCK
        .replace("name = \"tracing-subscriber\"\nversion = \"0.3.", "name = \"tracing-subscriber\"\nversion = \"0.2.");
    assert_eq!(faults(&old).len(), 1);
    assert_eq!(faults("").len(), 5);
}
