//! Slack incoming webhooks, and what looks like them (Mattermost, Rocket.Chat, Discord's `/slack`).
//!
//! Limits (apis.md 1.8): at most 50 blocks, header 150 characters, section text 3000; and all blocks together
//! far below 13 000, above which Slack fails although each part is within its limit. Everything untrusted is
//! `plain_text`, or escaped where Slack has only markup (the fallback text).

use super::{Delivery, transport};
use crate::{
    clock::Clock,
    record::{Incident, Notice},
    report::{
        Context,
        escape::{cut_chars, one_line, slack},
        text::{self, Story},
    },
};
use reqwest::Url;
use serde_json::{Value, json};

/// Longest header.
const HEADER: usize = 150;
/// Longest paragraph; five of them stay far below what Slack takes in all.
const PARAGRAPH: usize = 1200;
/// Longest answer that is looked at.
const ANSWER: usize = 1024;

/// Answers of Slack that are told on; any other text is not, it could hold anything.
const KNOWN: [&str; 16] = [
    "invalid_payload",
    "invalid_blocks",
    "msg_blocks_too_long",
    "no_text",
    "user_not_found",
    "channel_not_found",
    "channel_is_archived",
    "no_service",
    "no_service_id",
    "no_team",
    "team_disabled",
    "invalid_token",
    "action_prohibited",
    "posting_to_general_channel_denied",
    "too_many_attachments",
    "rollup_error",
];

/// Pure. The body of a notice.
pub(super) fn body(incident: &Incident, context: &Context) -> Value {
    let Story { headline, why, change, duration, outcome, command } = text::story(incident);
    let mut place = one_line(crate::report::markdown::environment(incident, context));
    if let Some(cluster) = &context.cluster {
        place = format!("{place} (cluster {})", one_line(cluster));
    }
    let mut paragraphs = vec![headline.clone(), why.clone(), format!("From → to: {change}")];
    paragraphs.extend(outcome);
    paragraphs.extend(duration.map(|d| format!("It lasted {d}.")));
    let plain = |text: &str, max: usize| json!({"type": "plain_text", "text": cut_chars(text, max), "emoji": false});
    let mut blocks = vec![json!({"type": "header", "text": plain(&headline, HEADER)})];
    // A headline that fits the header is not said twice.
    let skip = usize::from(headline.chars().count() <= HEADER);
    blocks.extend(paragraphs.iter().skip(skip).map(|p| json!({"type": "section", "text": plain(p, PARAGRAPH)})));
    blocks.push(json!({"type": "context", "elements": [plain(&format!("{place} · {command}"), 300)]}));
    json!({"text": cut_chars(&slack(&format!("{headline}. {why}")), PARAGRAPH), "blocks": blocks})
}

pub(super) async fn send(
    sender: &transport::Sender,
    url: Url,
    notice: &Notice,
    incident: &Incident,
    context: &Context,
    clock: Clock,
) -> Delivery {
    match sender.send(sender.client.post(url).json(&body(incident, context))).await {
        Err(error) => transport::later(notice, transport::fault(&error)),
        Ok(mut response) => {
            let answer = transport::beginning(&mut response, ANSWER).await;
            let answer = String::from_utf8_lossy(&answer);
            let word = KNOWN.into_iter().find(|k| answer.contains(k)).unwrap_or_default();
            match transport::refused(&response, notice, clock, word) {
                Some(refused) => refused,
                None => accepted(&answer, word, notice),
            }
        }
    }
}

/// A 200 is not enough: an error can come with it.
fn accepted(answer: &str, word: &str, notice: &Notice) -> Delivery {
    let answer = answer.trim();
    let says_yes = |key: &str| {
        serde_json::from_str::<Value>(answer).is_ok_and(|v| v.get(key).and_then(Value::as_bool) == Some(true))
    };
    if answer.is_empty() || answer.eq_ignore_ascii_case("ok") || says_yes("ok") || says_yes("success") {
        Delivery::Done
    } else if word.is_empty() {
        transport::later(notice, "the receiver answered 200 with an error or a page instead of ok".into())
    } else {
        Delivery::GiveUp { why: format!("the receiver answered 200 with {word}") }
    }
}
