//! The real control plane: etcd, kube-apiserver, kube-controller-manager, Prometheus.
//!
//! The ports are fixed: the suite runs in a network namespace of its own.
mod certs;
pub(crate) mod prometheus;
pub(crate) mod second;
pub(crate) mod state_metrics;

use crate::{
    fail::{Context, Failure, Result},
    process::{self, Process, Said},
    wait::{self, Missing},
};
use certs::{Authority, Identity};
use serde::Deserialize;
use serde_json::json;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{process::Command, sync::Mutex, time::Instant};

/// The API server.
pub(crate) const API: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 6443);
/// The daemon as the API server knows it.
pub(crate) const DAEMON: &str = "system:serviceaccount:lastgood:lastgood";

/// Lastgood believes a Prometheus after a minute.
const TRUST: Duration = Duration::from_secs(65);

/// Requests that change something are logged with their bodies: the oracle for what we wrote.
const AUDIT_POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: RequestResponse
  verbs: [create, update, patch, delete, deletecollection]
  resources: [{group: apps}, {group: lastgood.dev}]
- level: Metadata
"#;

const CONTROLLERS: &str = "deployment-controller,replicaset-controller,statefulset-controller,\
daemonset-controller,endpointslice-controller,disruption-controller,garbage-collector-controller,\
namespace-controller,serviceaccount-controller,root-ca-certificate-publisher-controller,\
resourcequota-controller,horizontal-pod-autoscaler-controller,clusterrole-aggregation-controller,\
validatingadmissionpolicy-status-controller";

/// What can happen to the control plane under everybody's feet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Disturbance {
    /// etcd stands still: nothing can be written, only caches answer.
    EtcdStops,
    EtcdContinues,
    /// The API server stands still.
    ApiStops,
    ApiContinues,
    /// The API server ends and comes back with another serving certificate.
    ApiRestarts,
}

/// A running control plane. Dropping it kills its processes.
pub(crate) struct Plane {
    /// As `system:masters`, user `kubelet`.
    pub(crate) kubelet: kube::Client,
    /// As `system:masters`, user `admin`: what people do.
    pub(crate) admin: kube::Client,
    /// The kubeconfig of people.
    pub(crate) kubeconfig: PathBuf,
    /// The kubeconfig of the daemon: its own ServiceAccount.
    pub(crate) daemon_kubeconfig: PathBuf,
    pub(crate) audit_log: PathBuf,
    pub(crate) http: reqwest::Client,
    bin: PathBuf,
    run: PathBuf,
    authority: Authority,
    monitored_since: Instant,
    processes: Mutex<Vec<Process>>,
}

impl Plane {
    /// Starts everything in folder `run` from the binaries in `bin`, and installs what `deploy/` ships.
    pub(crate) async fn start(bin: &Path, run: &Path, root: &Path) -> Result<Self> {
        let authority = Authority::new(&run.join("certs"))?;
        let etcd = start_etcd(bin, run).await?;
        let (api, audit_log) = start_api_server(bin, run, &authority)?;
        let kubeconfig = client_kubeconfig(run, &authority, "admin")?;
        let admin = client(&kubeconfig).await?;
        let kubelet = client(&client_kubeconfig(run, &authority, "kubelet")?).await?;
        let plane = Self {
            kubelet,
            admin,
            kubeconfig,
            daemon_kubeconfig: run.join("daemon.kubeconfig"),
            audit_log,
            http: reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?,
            bin: bin.into(),
            run: run.into(),
            authority,
            // Prometheus starts a moment later; the margin covers it.
            monitored_since: Instant::now(),
            processes: Mutex::new(vec![api, etcd]),
        };
        plane.wait_for_api().await?;
        let controllers = client_kubeconfig(run, &plane.authority, "kube-controller-manager")?;
        let controllers = start_controllers(bin, run, &plane.authority, &controllers).await?;
        plane.processes.lock().await.insert(0, controllers);
        let scraper = prometheus::start(run, ("2s", "1s")).await?;
        plane.processes.lock().await.insert(0, scraper);
        plane.install(root).await?;
        Ok(plane)
    }

    async fn wait_for_api(&self) -> Result<()> {
        let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(self.admin.clone());
        let mut processes = self.processes.lock().await;
        let api = named(&mut processes, "kube-apiserver")?;
        wait::until("the API server has its default namespace", Duration::from_secs(90), async || {
            api.must_live().map_err(Missing::for_ever)?;
            namespaces.get("default").await.map(drop).map_err(|e| e.to_string().into())
        })
        .await
    }

    /// Applies the shipped manifests and writes the daemon's kubeconfig with a token of its ServiceAccount.
    async fn install(&self, root: &Path) -> Result<()> {
        let overlay = root.join("tests/e2e/plane/deploy").display().to_string();
        self.kubectl(&["apply", "-k", &overlay], None).await?.ok("kubectl apply of the shipped manifests")?;
        let crd = ["wait", "--for=condition=Established", "crd/incidents.lastgood.dev", "--timeout=30s"];
        self.kubectl(&crd, None).await?.ok("the CRD is established")?;
        self.account_kubeconfig("lastgood/lastgood", API, &self.daemon_kubeconfig).await
    }

    /// Writes a kubeconfig with a fresh token of a ServiceAccount, `namespace/name`, for an API server.
    pub(crate) async fn account_kubeconfig(&self, account: &str, server: SocketAddr, to: &Path) -> Result<()> {
        let (namespace, name) = account.split_once('/').context(format!("{account} is not namespace/name"))?;
        let token = ["create", "token", name, "-n", namespace, "--duration=6h"];
        let token = self.kubectl(&token, None).await?.ok(&format!("a token of {account}"))?;
        let user = json!({"token": token.trim()});
        write_kubeconfig(to, &self.authority.ca(), name, &user, server)
    }

    /// What every story feels.
    pub(crate) async fn disturb(&self, how: Disturbance) -> Result<()> {
        let mut processes = self.processes.lock().await;
        match how {
            Disturbance::EtcdStops => named(&mut processes, "etcd")?.signal("STOP").await,
            Disturbance::EtcdContinues => named(&mut processes, "etcd")?.signal("CONT").await,
            Disturbance::ApiStops => named(&mut processes, "kube-apiserver")?.signal("STOP").await,
            Disturbance::ApiContinues => named(&mut processes, "kube-apiserver")?.signal("CONT").await,
            Disturbance::ApiRestarts => {
                let api = named(&mut processes, "kube-apiserver")?;
                // Its watches would keep it for a minute.
                api.stop(Duration::from_secs(3)).await;
                *api = start_api_server(&self.bin, &self.run, &self.authority)?.0;
                drop(processes);
                self.wait_for_api().await
            }
        }
    }

    /// Runs kubectl as a person.
    pub(crate) async fn kubectl(&self, args: &[&str], stdin: Option<&str>) -> Result<Said> {
        self.kubectl_as(&self.kubeconfig, args, stdin).await
    }

    /// Runs kubectl as whoever a kubeconfig names.
    pub(crate) async fn kubectl_as(&self, kubeconfig: &Path, args: &[&str], stdin: Option<&str>) -> Result<Said> {
        let config = format!("--kubeconfig={}", kubeconfig.display());
        let args = std::iter::once(config.as_str()).chain(args.iter().copied());
        process::run(&self.bin.join("kubectl"), args, stdin, Duration::from_secs(180)).await
    }

    /// Runs kubectl with `-o json` and parses what it says.
    pub(crate) async fn get(&self, args: &[&str]) -> Result<serde_json::Value> {
        let args: Vec<&str> = ["get"].into_iter().chain(args.iter().copied()).chain(["-o", "json"]).collect();
        let text = self.kubectl(&args, None).await?.ok(&format!("kubectl {}", args.join(" ")))?;
        serde_json::from_str(&text).map_err(Failure::from)
    }

    pub(crate) fn kubectl_path(&self) -> PathBuf {
        self.bin.join("kubectl")
    }

    /// A client of people that shows every answer as it is: refusals are not tried again.
    pub(crate) async fn plain_client(&self) -> Result<kube::Client> {
        let mut config = config(&self.kubeconfig).await?;
        config.default_retry = false;
        Ok(kube::Client::try_from(config)?)
    }

    /// An error when one of its processes has ended.
    pub(crate) async fn must_live(&self) -> Result<()> {
        self.processes.lock().await.iter_mut().try_for_each(Process::must_live)
    }

    /// Waits until Prometheus has run long enough to be believed: Lastgood takes the numbers of one
    /// that has just started for what they are, incomplete.
    pub(crate) async fn wait_for_trust(&self) {
        tokio::time::sleep_until(self.monitored_since + TRUST).await;
    }

    pub(crate) fn still_distrusted(&self) -> bool {
        self.monitored_since.elapsed() < TRUST
    }

    /// Stops the processes, those that depend on others first.
    pub(crate) async fn stop(&self) {
        for process in self.processes.lock().await.iter_mut() {
            process.stop(Duration::from_secs(10)).await;
        }
    }
}

async fn start_etcd(bin: &Path, run: &Path) -> Result<Process> {
    let mut command = Command::new(bin.join("etcd"));
    command.arg("--name=node0").arg(format!("--data-dir={}", run.join("etcd").display())).args([
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=node0=http://127.0.0.1:2380",
        "--auto-compaction-retention=1",
        "--quota-backend-bytes=2147483648",
        "--unsafe-no-fsync=true",
        "--log-level=warn",
    ]);
    let mut process = Process::start("etcd", command, &run.join("etcd.log"))?;
    wait::until("etcd listens", Duration::from_secs(30), async || {
        process.must_live().map_err(Missing::for_ever)?;
        tokio::net::TcpStream::connect("127.0.0.1:2379").await.map(drop).map_err(|e| e.to_string().into())
    })
    .await?;
    Ok(process)
}

fn start_api_server(bin: &Path, run: &Path, authority: &Authority) -> Result<(Process, PathBuf)> {
    let audit_log = run.join("audit.log");
    let mut command = api_server(bin, run, authority, "apiserver")?;
    command
        .arg(format!("--audit-log-path={}", audit_log.display()))
        .args(["--etcd-servers=http://127.0.0.1:2379", "--secure-port=6443"]);
    Ok((Process::start("kube-apiserver", command, &run.join("kube-apiserver.log"))?, audit_log))
}

/// What all API servers have in common; `name` is that of its serving certificate.
fn api_server(bin: &Path, run: &Path, authority: &Authority, name: &str) -> Result<Command> {
    let names = ["localhost", "127.0.0.1", "10.96.0.1", "kubernetes.default.svc"];
    let serving = authority.server(name, &names)?;
    let policy = run.join("audit.yaml");
    std::fs::write(&policy, AUDIT_POLICY)?;
    let (signing, checking) = (authority.service_account_key(), authority.service_account_public_key());
    let mut command = Command::new(bin.join("kube-apiserver"));
    command
        .arg(format!("--cert-dir={}", run.join("certs").display()))
        .arg(format!("--client-ca-file={}", authority.ca().display()))
        .arg(format!("--tls-cert-file={}", serving.cert.display()))
        .arg(format!("--tls-private-key-file={}", serving.key.display()))
        .arg(format!("--service-account-key-file={}", checking.display()))
        .arg(format!("--service-account-signing-key-file={}", signing.display()))
        .arg(format!("--audit-policy-file={}", policy.display()))
        .args([
            "--bind-address=127.0.0.1",
            "--advertise-address=10.96.0.1",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            "--endpoint-reconciler-type=none",
            "--audit-log-maxsize=4096",
        ]);
    Ok(command)
}

fn named<'a>(processes: &'a mut [Process], name: &str) -> Result<&'a mut Process> {
    processes.iter_mut().find(|p| p.name() == name).context(format!("no {name} runs"))
}

async fn start_controllers(bin: &Path, run: &Path, authority: &Authority, kubeconfig: &Path) -> Result<Process> {
    let mut command = Command::new(bin.join("kube-controller-manager"));
    command
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--root-ca-file={}", authority.ca().display()))
        .arg(format!("--service-account-private-key-file={}", authority.service_account_key().display()))
        .arg(format!("--controllers={CONTROLLERS}"))
        .args([
            "--bind-address=127.0.0.1",
            "--secure-port=10257",
            "--authorization-always-allow-paths=/healthz,/readyz,/livez,/metrics",
            "--leader-elect=false",
            "--horizontal-pod-autoscaler-sync-period=3s",
            // The defaults (20 and 30 a second) are for a controller that is not asked for six rollouts at once.
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        ]);
    let mut process = Process::start("kube-controller-manager", command, &run.join("kube-controller-manager.log"))?;
    wait::until("the controllers listen", Duration::from_secs(60), async || {
        process.must_live().map_err(Missing::for_ever)?;
        tokio::net::TcpStream::connect("127.0.0.1:10257").await.map(drop).map_err(|e| e.to_string().into())
    })
    .await?;
    Ok(process)
}

fn client_kubeconfig(run: &Path, authority: &Authority, user: &str) -> Result<PathBuf> {
    let Identity { cert, key } = authority.master(user)?;
    let path = run.join(format!("{user}.kubeconfig"));
    let credentials = json!({"client-certificate": cert, "client-key": key});
    write_kubeconfig(&path, &authority.ca(), user, &credentials, API)?;
    Ok(path)
}

fn write_kubeconfig(
    path: &Path,
    ca: &Path,
    user: &str,
    credentials: &serde_json::Value,
    server: SocketAddr,
) -> Result<()> {
    // JSON is YAML.
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "e2e",
        "clusters": [{"name": "e2e", "cluster": {"server": format!("https://{server}"), "certificate-authority": ca}}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": user}}],
    });
    std::fs::write(path, serde_json::to_string_pretty(&config)?).context(path.display())
}

async fn client(kubeconfig: &Path) -> Result<kube::Client> {
    Ok(kube::Client::try_from(config(kubeconfig).await?)?)
}

async fn config(kubeconfig: &Path) -> Result<kube::Config> {
    let file = kube::config::Kubeconfig::read_from(kubeconfig)?;
    let mut config = kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await?;
    config.read_timeout = Some(Duration::from_secs(300));
    Ok(config)
}
