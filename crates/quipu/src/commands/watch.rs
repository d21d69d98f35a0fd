//! Following a run while it goes on: here, or on other machines.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar};
use quipu_exec::watch::{Ended, Meter, Watch};
use quipu_run::{Happened, News};

use crate::cli::Global;
use crate::output;

/// How often a terminal is told how far running steps are.
const TICK: Duration = Duration::from_millis(200);
/// How many of them fit on its line.
const STEPS_SHOWN: usize = 3;
/// Characters of a machine's key that are shown.
const NODE_CHARS: usize = 8;

/// Shows the steps of a run: a line that changes on a terminal, and a line for each event to those who
/// asked for it.
pub(crate) struct Follow {
    bar: ProgressBar,
    begun: Instant,
    /// Whether each event has a line.
    lines: bool,
    json: bool,
    quiet: bool,
    running: Mutex<BTreeMap<String, (Instant, Arc<Meter>)>>,
}

impl Follow {
    pub(crate) fn new(global: &Global, lines: bool) -> Arc<Self> {
        let bar = output::progress(global.quiet, None, "steps");
        let follow = Arc::new(Self {
            bar,
            begun: Instant::now(),
            lines,
            json: global.json,
            quiet: global.quiet,
            running: Mutex::default(),
        });
        if !follow.bar.is_hidden() {
            let weak = Arc::downgrade(&follow);
            std::thread::spawn(move || {
                while let Some(follow) = weak.upgrade() {
                    follow.tick();
                    drop(follow);
                    std::thread::sleep(TICK);
                }
            });
        }
        follow
    }

    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }

    /// What running steps have read and written so far.
    fn tick(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let step = |(id, (since, meter)): (&String, &(Instant, Arc<Meter>))| {
            format!("{id} {} {:.1} s", HumanBytes(meter.bytes()), since.elapsed().as_secs_f32())
        };
        let mut shown: Vec<String> = running.iter().take(STEPS_SHOWN).map(step).collect();
        if running.len() > STEPS_SHOWN {
            shown.push(format!("and {} more", running.len() - STEPS_SHOWN));
        }
        if !shown.is_empty() {
            self.bar.set_message(shown.join(", "));
        }
    }

    /// Tells of an event.
    pub(crate) fn tell(&self, news: &News) {
        let elapsed = self.begun.elapsed();
        let done = matches!(news.what, Happened::Done { .. });
        self.bar.inc(u64::from(done && news.step.is_some()));
        if !self.lines {
            if let (None, Some(node), Happened::Claimed) = (&news.step, &news.node, &news.what) {
                output::note(self.quiet, &format!("{node} works on it"));
            }
            return;
        }
        if self.json {
            // If nobody reads, the result cannot be told either, and that is an error.
            let _unread = output::json(&news.to_json(elapsed));
            return;
        }
        let line = line(news, elapsed);
        self.bar.suspend(|| output::note(false, &line));
    }
}

/// An event as people read it.
fn line(news: &News, elapsed: Duration) -> String {
    let step = news.step.as_deref().unwrap_or("(the whole run)");
    let place = news
        .node
        .as_ref()
        .map_or("here".to_owned(), |node| node.chars().take(NODE_CHARS).collect());
    let (state, more) = match &news.what {
        Happened::Claimed => ("begun", String::new()),
        Happened::Done { bytes } => ("done", HumanBytes(*bytes).to_string()),
        Happened::Failed(why) => ("failed", why.clone()),
    };
    format!("{:>8.1} s  {state:<6}  {place:<8}  {step}  {more}", elapsed.as_secs_f32())
        .trim_end()
        .to_owned()
}

impl Watch for Follow {
    fn begin(&self, step: &str, meter: &Arc<Meter>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(step.to_owned(), (Instant::now(), Arc::clone(meter)));
        drop(running);
        self.tell(&News { step: Some(step.to_owned()), node: None, what: Happened::Claimed });
    }

    fn end(&self, step: &str, how: Ended) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = running.remove(step).map_or(0, |(_, meter)| meter.bytes());
        drop(running);
        let what = match how {
            Ended::Run | Ended::Reused => Happened::Done { bytes },
            Ended::Failed => Happened::Failed(String::new()),
        };
        self.tell(&News { step: Some(step.to_owned()), node: None, what });
    }
}
