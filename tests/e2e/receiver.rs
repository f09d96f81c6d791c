//! Whoever gets the notices: a webhook and a Slack on loopback, one of each per story, which can refuse.
use crate::{
    fail::Result,
    http::{self, Asked},
};
use ring::hmac;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// What the webhook is signed with.
const SECRET: &str = "a-key-that-only-the-receiver-knows";

/// How the channels of a story answer at first; later every notice is accepted.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NoticesSpec {
    #[serde(default)]
    webhook: VecDeque<Answer>,
    #[serde(default)]
    slack: VecDeque<Answer>,
    /// A third channel, whose receiver has moved.
    #[serde(default)]
    moved: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    Ok,
    /// 500.
    Error,
    /// 429 with `Retry-After: 1`.
    TooMany,
    /// 200, and the body says that it failed.
    ErrorBody,
    /// None, and the connection stays open.
    Hang,
}

/// One notice that came.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    /// `webhook`, `slack`, `moved`, or any other path that was asked for.
    pub(crate) channel: String,
    pub(crate) answer: Answer,
    /// `X-Lastgood-Id`.
    pub(crate) key: String,
    pub(crate) body: Value,
    raw: Vec<u8>,
    timestamp: String,
    signature: String,
}

/// A running receiver; dropping it stops it.
pub(crate) struct Receiver {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Notice>>>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    pub(crate) async fn start(spec: &NoticesSpec) -> Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let address = listener.local_addr()?;
        let got = Arc::new(Mutex::new(Vec::new()));
        let answers = BTreeMap::from([("webhook", spec.webhook.clone()), ("slack", spec.slack.clone())]);
        let (sink, answers) = (got.clone(), Arc::new(Mutex::new(answers)));
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (sink, answers) = (sink.clone(), answers.clone());
                open.spawn(async move { drop(connection(stream, &sink, &answers).await) });
                while open.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, got, task })
    }

    /// The daemon's `notifiers`; their URLs and the key are written to files of the story. Slack comes first,
    /// so that it has its notice when the webhook hangs.
    pub(crate) fn settings(&self, spec: &NoticesSpec, folder: &Path) -> Result<Value> {
        let file = |name: &str, text: &str| -> Result<Value> {
            let path = folder.join(name);
            std::fs::write(&path, text)?;
            Ok(json!(path))
        };
        let url = |channel: &str| file(&format!("url-{channel}"), &format!("http://{}/{channel}", self.address));
        let key = file("webhook-key", SECRET)?;
        let mut channels = vec![
            json!({"name": "slack", "type": "slack", "urlFile": url("slack")?, "timeout": "5s"}),
            json!({"name": "webhook", "type": "webhook", "urlFile": url("webhook")?, "secretFile": key, "timeout": "5s"}),
        ];
        if spec.moved {
            channels.push(json!({"name": "moved", "type": "webhook", "urlFile": url("moved")?, "timeout": "5s"}));
        }
        Ok(channels.into())
    }

    /// Everything that came so far, in order.
    pub(crate) fn got(&self) -> Vec<Notice> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is wrong with the notices of a channel: each phase accepted once and in this order, every try of
    /// a key the same, signed; nobody followed a redirect.
    pub(crate) fn faults(&self, channel: &str, phases: &[String]) -> Vec<String> {
        let all = self.got();
        let mut faults = Vec::new();
        if let Some(followed) = all.iter().find(|n| !["webhook", "slack", "moved"].contains(&n.channel.as_str())) {
            faults.push(format!("a redirect to {} was followed", followed.channel));
        }
        let of_channel: Vec<&Notice> = all.iter().filter(|n| n.channel == channel).collect();
        let accepted: Vec<&Notice> = of_channel.iter().filter(|n| n.answer == Answer::Ok).copied().collect();
        let told: Vec<&str> = accepted.iter().map(|n| n.phase()).collect();
        if channel == "slack" {
            // Its payload is for people: it has no phase, and no key to tell a repeat by.
            if accepted.len() != phases.len() {
                faults.push(format!("slack accepted {} notices instead of {}", accepted.len(), phases.len()));
            }
            let plain =
                |n: &&&Notice| n.body["text"].is_string() && n.body["blocks"][0]["text"]["type"] == "plain_text";
            faults.extend(of_channel.iter().filter(|n| !plain(n)).map(|n| format!("not for Slack: {}", n.body)));
            return faults;
        }
        if told != phases {
            faults.push(format!("{channel} was told {told:?} instead of {phases:?}"));
        }
        let mut bodies: BTreeMap<&str, &[u8]> = BTreeMap::new();
        for notice in &of_channel {
            if *bodies.entry(&notice.key).or_insert(&notice.raw) != notice.raw {
                faults.push(format!("{} changed between two tries", notice.key));
            }
            if !notice.key.ends_with(&format!("/{channel}")) || notice.body["id"] != notice.key.as_str() {
                faults.push(format!("the key {} is not that of {}", notice.key, notice.body["id"]));
            }
            if channel == "webhook" && !notice.is_signed() {
                faults.push(format!("the signature of {} is wrong: {}", notice.key, notice.signature));
            }
        }
        let keys: std::collections::BTreeSet<&str> = accepted.iter().map(|n| n.key.as_str()).collect();
        if keys.len() != accepted.len() {
            faults.push(format!("{channel} accepted a notice twice"));
        }
        faults
    }
}

impl Notice {
    pub(crate) fn phase(&self) -> &str {
        self.body["phase"].as_str().unwrap_or("?")
    }

    /// As the receiver's documentation says: `sha256=<hex>` over `<timestamp>.<body>`, and the time is now.
    fn is_signed(&self) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let text = [self.timestamp.as_bytes(), b".", &self.raw].concat();
        let hex = self.signature.strip_prefix("sha256=").unwrap_or_default();
        let bytes: Option<Vec<u8>> =
            (0..hex.len() / 2).map(|i| u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok()).collect();
        let age = self.timestamp.parse::<i64>().map(|t| jiff::Timestamp::now().as_second() - t);
        bytes.is_some_and(|tag| hmac::verify(&key, &text, &tag).is_ok()) && age.is_ok_and(|age| (0..900).contains(&age))
    }
}

type Answers = Mutex<BTreeMap<&'static str, VecDeque<Answer>>>;

async fn connection(stream: TcpStream, sink: &Mutex<Vec<Notice>>, answers: &Answers) -> Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(asked) = http::read(&mut stream).await? {
        let channel = asked.path.trim_start_matches('/').to_owned();
        let next = answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_mut(channel.as_str())
            .and_then(VecDeque::pop_front);
        let answer = next.unwrap_or(Answer::Ok);
        let moved = channel == "moved";
        sink.lock().unwrap_or_else(PoisonError::into_inner).push(notice(channel, answer, &asked));
        let bytes = match answer {
            _ if moved => http::answer(302, "Location: /elsewhere\r\n", "text/plain", ""),
            Answer::Ok => http::answer(200, "", "text/plain", "ok"),
            Answer::Error => http::answer(500, "", "text/plain", "oops"),
            Answer::TooMany => http::answer(429, "Retry-After: 1\r\n", "text/plain", "rate_limited"),
            Answer::ErrorBody => http::answer(200, "", "application/json", r#"{"ok": false, "error": "fatal_error"}"#),
            Answer::Hang => std::future::pending().await,
        };
        stream.write_all(&bytes).await?;
    }
    Ok(())
}

fn notice(channel: String, answer: Answer, asked: &Asked) -> Notice {
    Notice {
        channel,
        answer,
        key: asked.header("x-lastgood-id").into(),
        body: serde_json::from_slice(&asked.body).unwrap_or_default(),
        raw: asked.body.clone(),
        timestamp: asked.header("x-lastgood-timestamp").into(),
        signature: asked.header("x-lastgood-signature").into(),
    }
}
