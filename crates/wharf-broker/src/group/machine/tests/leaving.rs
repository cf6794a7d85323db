//! Leaving: one, several, by instance, while waiting.

use super::*;

fn leaving_instance(member: &str, instance: &str) -> Leaving {
    Leaving {
        instance: Some(instance.to_owned()),
        ..leaving(member)
    }
}

#[test]
fn a_member_that_leaves_makes_the_others_join_again() {
    let mut diary = Diary::stable(2);
    assert_eq!(diary.leave(&[leaving("c-2")]), [None]);
    assert_eq!(diary.group.state(), State::PreparingRebalance);
    let join = diary.join(member("c-1"));
    assert_eq!(diary.joined(join).generation, 2);
}

#[test]
fn each_leaving_member_gets_its_own_answer() {
    let mut diary = Diary::new();
    diary.join(instance("i"));
    diary.join(instance("j"));
    diary.join(new_member());
    diary.form();
    diary.sync_all();
    let unknown = Some(ErrorKind::UnknownMemberId);
    let answers = diary.leave(&[
        leaving("stranger"),
        leaving(""),
        leaving_instance("", "k"),
        leaving_instance("i-1", "k"),
        leaving_instance("i-1", "j"),
        leaving_instance("", "i"),
        leaving_instance("j-2", "j"),
        leaving("c-3"),
        leaving("c-3"),
    ]);
    let fenced = Some(ErrorKind::FencedInstanceId);
    assert_eq!(
        answers,
        [
            unknown, unknown, unknown, unknown, fenced, None, None, None, unknown
        ]
    );
    assert_eq!(diary.group.state(), State::Empty);
}

#[test]
fn an_administrator_removes_a_waiting_member() {
    let mut diary = Diary::stable(1);
    let mut joins = vec![diary.join(instance("i")), diary.join(instance("j"))];
    assert_eq!(diary.leave(&[leaving_instance("", "i")]), [None]);
    assert_eq!(
        diary.refused(joins.remove(0)),
        (ErrorKind::UnknownMemberId, "")
    );
    diary.join(member("c-1"));
    let sync = diary.sync(&diary.sync_of("j-4"));
    assert!(diary.is_waiting(sync));
    diary.leave(&[leaving_instance("", "j")]);
    assert_eq!(diary.sync_refused(sync), ErrorKind::UnknownMemberId);
}

#[test]
fn a_member_that_leaves_may_end_the_join_phase_of_the_others() {
    let mut diary = Diary::stable(2);
    let join = diary.join(member("c-1"));
    assert!(diary.is_waiting(join));
    diary.leave(&[leaving("c-2")]);
    assert_eq!(diary.joined(join).generation, 2);
}

#[test]
fn an_id_given_out_may_be_given_back() {
    let mut diary = Diary::stable(1);
    diary.join(Join {
        member_id_required: true,
        ..new_member()
    });
    assert_eq!(diary.leave(&[leaving("c-3")]), [None]);
    let late = diary.join(member("c-3"));
    assert_eq!(diary.refused(late), (ErrorKind::UnknownMemberId, "c-3"));
}

#[test]
fn members_that_all_leave_during_the_initial_delay_leave_an_empty_group() {
    let mut diary = Diary::new();
    let join = diary.join(new_member());
    assert_eq!(diary.leave(&[leaving("c-1")]), [None]);
    assert_eq!(diary.refused(join), (ErrorKind::UnknownMemberId, ""));
    diary.pass(INITIAL_DELAY);
    assert_eq!(diary.group.state(), State::Empty);
}

#[test]
fn a_group_tells_why_it_rebalances_in_the_words_of_the_client() {
    let mut diary = Diary::stable(1);
    assert_eq!(diary.group.rebalance_reason(), "member c-1 is new");
    let long = "y".repeat(300);
    diary.join(Join {
        reason: long,
        ..new_member()
    });
    let kept = format!("member c-3 is new: {}…", "y".repeat(255));
    assert_eq!(diary.group.rebalance_reason(), kept);
    diary.join(member("c-1"));
    diary.leave(&[Leaving {
        reason: "closing down".to_owned(),
        ..leaving("c-3")
    }]);
    assert_eq!(
        diary.group.rebalance_reason(),
        "members leave: closing down"
    );
}
