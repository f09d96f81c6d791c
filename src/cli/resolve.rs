//! Which workload is meant: `web`, `deploy/web`, `shop/deployment/web`, with "did you mean".

use super::{Context, Failure, exit};
use crate::{
    cluster::{READ_DEADLINE, WorkloadView, get_view, raw_api, within},
    config::nearest,
    domain::{Kind, WorkloadId},
};
use clap::Args;
use kube::{ResourceExt, api::ListParams};

/// Names one workload.
#[derive(Debug, Args)]
pub(super) struct WorkloadArg {
    /// NAME, KIND/NAME, NAMESPACE/KIND/NAME; without a kind all three are looked through.
    #[arg(value_name = "WORKLOAD")]
    pub workload: String,
}

/// What was written, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Parts<'a> {
    namespace: Option<&'a str>,
    kind: Option<Kind>,
    name: &'a str,
}

fn parts(text: &str) -> Result<Parts<'_>, String> {
    let pieces: Vec<&str> = text.split('/').collect();
    let parts = match pieces[..] {
        [name] => Parts { namespace: None, kind: None, name },
        [first, name] => match first.parse() {
            Ok(kind) => Parts { namespace: None, kind: Some(kind), name },
            Err(_) => Parts { namespace: Some(first), kind: None, name },
        },
        [namespace, kind, name] => Parts { namespace: Some(namespace), kind: Some(kind.parse()?), name },
        _ => return Err(format!("\"{text}\" names no workload; write NAME, KIND/NAME or NAMESPACE/KIND/NAME")),
    };
    if parts.name.is_empty() { Err(format!("\"{text}\" has no name")) } else { Ok(parts) }
}

impl WorkloadArg {
    /// The workload as it is now.
    pub async fn find(&self, ctx: &Context) -> Result<WorkloadView, Failure> {
        let parts = parts(&self.workload).map_err(|why| Failure::new(exit::USAGE, why))?;
        let namespace = parts.namespace.unwrap_or_else(|| ctx.namespace()).to_owned();
        let kinds: Vec<Kind> = parts.kind.map_or_else(|| Kind::ALL.to_vec(), |kind| vec![kind]);
        let mut found = Vec::new();
        let mut names = Vec::new();
        for kind in kinds {
            let api = raw_api(&ctx.cluster.reader, &namespace, kind.as_str());
            let doing = format!("listing {} of {namespace} at {}", kind.plural(), ctx.cluster.url);
            let list = within(READ_DEADLINE, doing, api.list_metadata(&ListParams::default())).await?;
            for object in list.items {
                let name = object.name_any();
                if name == parts.name {
                    found.push(WorkloadId::new(namespace.clone(), kind, name));
                } else {
                    names.push(name);
                }
            }
        }
        match &found[..] {
            [id] => Ok(get_view(&ctx.cluster.reader, id).await?),
            [] => {
                let near = near(parts.name, &names).map(|n| format!("; did you mean \"{n}\"?")).unwrap_or_default();
                let text = format!("there is no workload \"{}\" in namespace {namespace}{near}", parts.name);
                Err(Failure::new(exit::ERROR, text))
            }
            several => {
                let several: Vec<String> = several.iter().map(ToString::to_string).collect();
                Err(Failure::new(exit::USAGE, format!("\"{}\" is ambiguous: {}", parts.name, several.join(", "))))
            }
        }
    }
}

/// The nearest of several names, if one is near or begins with what was written.
pub(super) fn near<'a>(wanted: &str, names: &'a [String]) -> Option<&'a str> {
    let names = || names.iter().map(String::as_str);
    nearest(wanted, names()).or_else(|| names().find(|name| name.starts_with(wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_to_name_a_workload() {
        assert_eq!(parts("web"), Ok(Parts { namespace: None, kind: None, name: "web" }));
        assert_eq!(parts("deploy/web"), Ok(Parts { namespace: None, kind: Some(Kind::Deployment), name: "web" }));
        assert_eq!(parts("shop/web"), Ok(Parts { namespace: Some("shop"), kind: None, name: "web" }));
        let whole = Parts { namespace: Some("shop"), kind: Some(Kind::StatefulSet), name: "db" };
        assert_eq!(parts("shop/sts/db"), Ok(whole));
        for wrong in ["", "a/b/c/d", "shop/pod/x", "deploy/"] {
            assert!(parts(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_near_name_is_offered_and_a_far_one_is_not() {
        let names = ["checkout".to_owned(), "cart".to_owned()];
        assert_eq!(near("chekout", &names), Some("checkout"));
        assert_eq!(near("check", &names), Some("checkout"));
        assert_eq!(near("payments", &names), None);
    }
}
