//! The breaker's states, its pauses and its services, on tokio's paused clock.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;
use tokio::sync::mpsc;
use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::*;
use crate::policy::{BoxError, Timeout, refused};

const SECOND: Duration = Duration::from_secs(1);

/// Judges by the last 4 calls, waits 10 s, 20 s, 30 s, 30 s, …, lets 2 trial calls in.
fn settings() -> BreakerSettings {
    BreakerSettings {
        window: Window::Calls(4),
        open_wait: 10 * SECOND,
        open_wait_max: 30 * SECOND,
        half_open_calls: 2,
        slow_call: 5 * SECOND,
        ..BreakerSettings::default()
    }
}

fn breaker() -> Breaker {
    Breaker::new("payments", settings()).expect("valid settings")
}

type Answer = Result<(), std::io::Error>;

/// A service that does as it is asked.
fn obedient()
-> impl Service<bool, Response = (), Error = std::io::Error, Future: Send> + Clone + Send {
    service_fn(async |works: bool| -> Answer {
        if works {
            Ok(())
        } else {
            Err(std::io::Error::other("down"))
        }
    })
}

async fn call(breaker: &Breaker, works: bool) -> Result<(), BoxError> {
    breaker.layer().layer(obedient()).oneshot(works).await
}

async fn calls(breaker: &Breaker, works: &[bool]) {
    for works in works {
        let _ended = call(breaker, *works).await;
    }
}

fn is_open(ended: &Result<(), BoxError>) -> bool {
    let error = ended.as_ref().expect_err("an error");
    matches!(refused(&**error), Some(Refused::Open { .. }))
}

#[tokio::test(start_paused = true)]
async fn it_opens_at_the_failure_rate_and_not_before_enough_calls() {
    let breaker = breaker();
    calls(&breaker, &[false, false, false]).await;
    assert_eq!(breaker.state(), State::Closed);
    calls(&breaker, &[true]).await;
    assert_eq!(breaker.state(), State::Open);
    let ended = call(&breaker, true).await;
    assert!(is_open(&ended), "{ended:?}");
    assert_eq!(breaker.snapshot().retry_after, Some(10 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn old_successes_do_not_hide_new_failures() {
    let breaker = breaker();
    calls(&breaker, &[true; 1_000]).await;
    calls(&breaker, &[false, false]).await;
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn what_happened_long_ago_does_not_count_in_a_window_of_time() {
    let settings = BreakerSettings {
        window: Window::Time(10 * SECOND),
        calls_min: 4,
        ..settings()
    };
    let breaker = Breaker::new("payments", settings).expect("valid settings");
    calls(&breaker, &[false, false, false]).await;
    advance(11 * SECOND).await;
    calls(&breaker, &[false]).await;
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().failed, 1);
    calls(&breaker, &[false; 3]).await;
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn trial_calls_that_succeed_close_it() {
    let breaker = breaker();
    calls(&breaker, &[false; 4]).await;
    advance(10 * SECOND).await;
    assert_eq!(breaker.state(), State::Open);
    calls(&breaker, &[true]).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    calls(&breaker, &[true]).await;
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_wait_grows_while_trial_calls_fail_and_begins_anew_after_a_success() {
    let breaker = breaker();
    calls(&breaker, &[false; 4]).await;
    let mut waits = Vec::new();
    for _ in 0..4 {
        let wait = breaker.snapshot().retry_after.expect("it is open");
        waits.push(wait.as_secs());
        advance(wait).await;
        calls(&breaker, &[false]).await;
    }
    assert_eq!(waits, [10, 20, 30, 30]);
    advance(30 * SECOND).await;
    calls(&breaker, &[true, true]).await;
    calls(&breaker, &[false; 4]).await;
    assert_eq!(breaker.snapshot().retry_after, Some(10 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_trial_calls_are_let_in_and_one_given_up_frees_its_place() {
    let breaker = breaker();
    calls(&breaker, &[false; 4]).await;
    advance(10 * SECOND).await;
    let hangs = async || {
        let hanging = service_fn(|(): ()| pending::<Answer>());
        let mut call = Box::pin(breaker.layer().layer(hanging).oneshot(()));
        let polled = futures_util::poll!(&mut call);
        (call, polled)
    };
    let (first, polled) = hangs().await;
    assert!(polled.is_pending());
    let (_second, polled) = hangs().await;
    assert!(polled.is_pending());
    assert_eq!(breaker.calls_permitted(), 0);
    let third = call(&breaker, true).await;
    assert!(is_open(&third), "{third:?}");
    drop(first);
    assert_eq!(breaker.calls_permitted(), 1);
    assert!(call(&breaker, true).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn trial_calls_that_never_end_count_as_failed() {
    let breaker = breaker();
    calls(&breaker, &[false; 4]).await;
    advance(10 * SECOND).await;
    let hanging = breaker
        .layer()
        .layer(service_fn(|(): ()| pending::<Answer>()));
    let _first = tokio::spawn(hanging.clone().oneshot(()));
    let _second = tokio::spawn(hanging.oneshot(()));
    tokio::task::yield_now().await;
    assert_eq!(breaker.state(), State::HalfOpen);
    let begin = Instant::now();
    breaker.wait_until_calls_are_permitted().await;
    // 60 s for the trial calls, then the second wait.
    assert_eq!(begin.elapsed().as_secs(), 80);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn slow_calls_open_it_too() {
    let breaker = breaker();
    let slow = service_fn(async |(): ()| -> Answer {
        tokio::time::sleep(5 * SECOND).await;
        Ok(())
    });
    for _ in 0..4 {
        let ended = breaker.layer().layer(slow).oneshot(()).await;
        assert!(ended.is_ok());
    }
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_inside_counts_as_a_failure_and_one_outside_once_the_call_is_slow() {
    let hanging = || service_fn(|(): ()| pending::<Answer>());
    let inside = breaker();
    let timeout = Timeout::new("payments", SECOND).expect("valid");
    for _ in 0..4 {
        let ended = inside
            .layer()
            .layer(timeout.layer(hanging()))
            .oneshot(())
            .await;
        let error = ended.expect_err("a timeout");
        assert!(matches!(refused(&*error), Some(Refused::TimedOut { .. })));
    }
    assert_eq!(inside.state(), State::Open);

    let outside = breaker();
    for (after, state) in [(4, State::Closed), (5, State::Open)] {
        for _ in 0..4 {
            let call = outside.layer().layer(hanging()).oneshot(());
            let _elapsed = tokio::time::timeout(after * SECOND, call).await;
        }
        assert_eq!(outside.state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_is_no_error_counts_as_the_classifier_says() {
    #[derive(Debug, PartialEq)]
    enum Outcome {
        Accepted,
        Failed,
        Poison,
    }
    let breaker = breaker();
    let layer = breaker
        .layer()
        .classify(|ended: Result<&Outcome, &Infallible>| match ended {
            Ok(Outcome::Accepted) => Verdict::Success,
            Ok(Outcome::Failed) => Verdict::Failure,
            Ok(Outcome::Poison) => Verdict::Ignore,
            Err(never) => match *never {},
        });
    let handler = layer.layer(service_fn(async |number: u32| {
        Ok::<_, Infallible>(match number {
            0 => Outcome::Accepted,
            1 => Outcome::Failed,
            _ => Outcome::Poison,
        })
    }));
    for number in [2; 100] {
        let outcome = handler.clone().oneshot(number).await.expect("let in");
        assert_eq!(outcome, Outcome::Poison);
    }
    assert_eq!(breaker.snapshot().calls, 0);
    for number in [0, 0, 1, 1] {
        handler.clone().oneshot(number).await.expect("let in");
    }
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn what_began_before_a_change_of_state_does_not_count_after_it() {
    let breaker = breaker();
    let (answer, mut answers) = mpsc::unbounded_channel::<()>();
    let late = breaker.layer().layer(service_fn(move |(): ()| {
        let answer = answer.clone();
        async move {
            tokio::time::sleep(11 * SECOND).await;
            let _gone = answer.send(());
            Err::<(), _>(std::io::Error::other("down"))
        }
    }));
    let late = tokio::spawn(late.oneshot(()));
    tokio::task::yield_now().await;
    calls(&breaker, &[false; 4]).await;
    advance(10 * SECOND).await;
    calls(&breaker, &[true]).await;
    advance(SECOND).await;
    answers.recv().await;
    assert!(late.await.expect("no panic").is_err());
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn a_panic_counts_as_a_failure() {
    let breaker = breaker();
    for _ in 0..4 {
        let bug = service_fn(async |(): ()| -> Answer { panic!("a bug") });
        let ended = tokio::spawn(breaker.layer().layer(bug).oneshot(())).await;
        assert!(ended.is_err());
    }
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_waits_while_it_is_open_and_goes_on_when_trial_calls_are_let_in() {
    let breaker = breaker();
    calls(&breaker, &[false; 4]).await;
    let begin = Instant::now();
    breaker.wait_until_calls_are_permitted().await;
    assert_eq!(begin.elapsed(), 10 * SECOND);
    assert_eq!(breaker.calls_permitted(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_service_is_not_ready_while_it_is_open_and_loses_no_request() {
    let breaker = breaker();
    let layer = breaker.layer().when_open(WhenOpen::Wait);
    calls(&breaker, &[false; 4]).await;
    let mut service = layer.layer(obedient());
    assert!(service.ready().now_or_never().is_none());
    let begin = Instant::now();
    let ended = service
        .ready()
        .await
        .expect("ready at last")
        .call(true)
        .await;
    assert!(ended.is_ok());
    assert_eq!(begin.elapsed(), 10 * SECOND);
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn a_permit_from_before_it_opened_lets_no_call_in() {
    let breaker = breaker();
    let mut service = breaker.layer().layer(obedient());
    service.ready().await.expect("ready");
    calls(&breaker, &[false; 4]).await;
    let ended = service.call(true).await;
    assert!(is_open(&ended), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn the_inner_service_is_not_called_unless_it_said_that_it_is_ready() {
    struct Strict(bool);
    impl Service<()> for Strict {
        type Response = ();
        type Error = std::io::Error;
        type Future = std::future::Ready<Answer>;
        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Answer> {
            self.0 = true;
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, (): ()) -> Self::Future {
            assert!(self.0, "it was not asked whether it is ready");
            std::future::ready(Ok(()))
        }
    }
    let breaker = breaker();
    breaker.force_open();
    let mut service = breaker.layer().layer(Strict(false));
    service.ready().await.expect("ready to refuse");
    breaker.close();
    let ended = service.call(()).await;
    assert!(is_open(&ended), "{ended:?}");
    let ended = service.ready().await.expect("ready").call(()).await;
    assert!(ended.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_operator_may_open_it_switch_it_off_and_watch() {
    let breaker = breaker();
    breaker.force_open();
    advance(1_000 * SECOND).await;
    assert!(is_open(&call(&breaker, true).await));
    assert!(
        breaker
            .wait_until_calls_are_permitted()
            .now_or_never()
            .is_none()
    );
    breaker.disable();
    breaker.wait_until_calls_are_permitted().await;
    calls(&breaker, &[false; 10]).await;
    assert_eq!(
        (breaker.state(), breaker.snapshot().calls),
        (State::Disabled, 0)
    );
    breaker.metrics_only();
    calls(&breaker, &[false; 10]).await;
    assert_eq!(
        (breaker.state(), breaker.snapshot().failed),
        (State::MetricsOnly, 4)
    );
    breaker.close();
    assert_eq!(
        (breaker.state(), breaker.snapshot().failed),
        (State::Closed, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn every_change_and_refusal_is_told_to_the_observer() {
    let changes = Arc::new(AtomicU32::new(0));
    let refusals = Arc::new(AtomicU32::new(0));
    let (changed, refused) = (Arc::clone(&changes), Arc::clone(&refusals));
    let breakers = Breakers::observed_by(move |name: &str, event: &Event<'_>| {
        assert_eq!(name, "payments");
        match event {
            Event::State { .. } => changed.fetch_add(1, Ordering::Relaxed),
            Event::Refused(_) => refused.fetch_add(1, Ordering::Relaxed),
            Event::Finished { .. } => 0,
        };
    });
    let breaker = breakers
        .get_or_insert("payments", settings())
        .expect("valid");
    calls(&breaker, &[false; 6]).await;
    advance(10 * SECOND).await;
    calls(&breaker, &[true, true]).await;
    assert_eq!(changes.load(Ordering::Relaxed), 3);
    assert_eq!(refusals.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn one_name_has_one_breaker_and_one_set_of_settings() {
    let breakers = Breakers::default();
    let one = breakers
        .get_or_insert("payments", settings())
        .expect("valid");
    one.force_open();
    let other = breakers
        .get_or_insert("payments", settings())
        .expect("the same");
    assert_eq!(other.state(), State::ForcedOpen);
    assert!(
        breakers
            .get_or_insert("payments", BreakerSettings::default())
            .is_err()
    );
    assert_eq!(
        breakers.get("payments").map(|one| one.state()),
        Some(State::ForcedOpen)
    );
    assert!(breakers.get("shipping").is_none());
}

/// What may happen to a breaker.
#[derive(Clone, Copy, Debug)]
enum Step {
    Admit,
    End { which: usize, verdict: Verdict },
    Pass { seconds: u64 },
    Close,
    ForceOpen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let verdict = prop_oneof![
        Just(Verdict::Success),
        Just(Verdict::Failure),
        Just(Verdict::Ignore)
    ];
    let step = prop_oneof![
        6 => Just(Step::Admit),
        6 => (any::<usize>(), verdict).prop_map(|(which, verdict)| Step::End { which, verdict }),
        2 => (0..40_u64).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Close),
        1 => Just(Step::ForceOpen),
    ];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    #[test]
    fn whatever_happens_no_more_than_the_trial_calls_are_under_way_and_it_can_always_be_left(
        steps in steps()
    ) {
        let mut now = Instant::now();
        let mut machine = Machine::new(settings(), now);
        let mut under_way = Vec::new();
        for step in steps {
            match step {
                Step::Admit => {
                    if let (Ok(admission), _) = machine.admit(now) {
                        under_way.push(admission);
                    }
                }
                Step::End { which, verdict } if !under_way.is_empty() => {
                    let admission = under_way.swap_remove(which % under_way.len());
                    machine.record(now, &admission, verdict, SECOND);
                }
                Step::End { .. } => {}
                Step::Pass { seconds } => now += Duration::from_secs(seconds),
                Step::Close => drop(machine.close(now)),
                Step::ForceOpen => drop(machine.force_open(now)),
            }
            let trials = under_way.iter().filter(|one| machine.is_current(one)).count();
            if machine.state() == State::HalfOpen {
                let free = machine.permitted(now).unwrap_or(0) as usize;
                prop_assert!(trials + free <= 2, "{trials} under way, {free} free");
            }
        }
        // Whatever is stuck, time opens the way again, unless an operator closed it.
        if machine.state() != State::ForcedOpen {
            for _ in 0..2 {
                now += 100 * SECOND;
                machine.pass(now);
            }
            prop_assert!(machine.permitted(now).is_ok());
        }
    }
}
