"""The faults that Postroom is tested against, what must hold under each, and which tests show it.

The docs' table is made of it, and a test sees that every proof is there.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; `proofs` are tests, as `path::name` below tests/."""

    number: int
    what: str
    holds: str
    proofs: tuple[str, ...]


WORKERS = "faults/test_fault_workers.py"
BROKERS = "faults/test_fault_brokers.py"
LEDGER = "faults/test_fault_ledger.py"
RELAY = "faults/test_fault_relay.py"
LIFE = "cluster/test_operator_life.py"
KILLS = "cluster/test_operator_kills.py"
LINE = "cluster/test_operator_connection.py"
CHILDREN = "cluster/test_operator_children.py"
SLEEPER = "faults/test_fault_standstill.py"
STORM = "faults/test_fault_storm.py"
THREE = "faults/test_fault_three_brokers.py"
FALLBACK = "faults/test_fault_fallback.py"
REFUSED = "faults/test_dead_letters_refused.py"
SECRET = "faults/test_fault_secret.py"
SMTP = "smtp/test_faults.py"
SHARED = "ledger/test_leases.py"
STANDSTILL = "ledger/test_stuck_sessions.py"
CRASH = "faults/test_crash.py"
CRASH_SHARED = "faults/test_crash_shared.py"
CIRCUIT = "faults/test_fault_circuit.py"

FAULTS = (
    Fault(
        1,
        "none",
        "each event is exactly one letter",
        (f"{WORKERS}::test_without_a_fault_every_letter_arrives_once",),
    ),
    Fault(
        2,
        "workers killed with `kill -9` again and again, `onInDoubt: Resend`",
        "none lost; no more doubled than were in `sending` at the kills, each on record",
        (
            f"{CRASH}::test_no_letter_is_lost_when_the_worker_is_killed_at_random",
            f"{CRASH}::test_no_letter_is_lost_when_the_worker_dies_at_each_step",
            "faults/test_crash_up.py::test_no_letter_is_lost_when_everything_is_killed_at_random",
            f"{CRASH_SHARED}::test_no_letter_is_lost_when_workers_that_share_a_ledger_are_killed_at_random",
        ),
    ),
    Fault(
        3,
        "the same under `onInDoubt: Park`",
        "none doubled; no more parked than were in `sending` at the kills",
        (f"{CRASH}::test_under_park_no_letter_is_doubled_when_the_worker_is_killed_at_random",),
    ),
    Fault(
        4,
        "a worker stopped with SIGSTOP for longer than its lease, then continued",
        "the others go on; what it had is fenced off, its late answers change no row and are counted",
        (
            f"{SLEEPER}::test_answers_that_a_sleeper_hears_too_late_change_no_row_and_are_on_record",
            f"{CRASH_SHARED}::test_a_worker_that_stood_still_holds_nobody_up_and_doubles_nothing_unmarked",
            f"{STANDSTILL}::test_the_locks_of_a_stopped_worker_are_released_when_its_lease_expires",
            f"{SHARED}::test_a_late_reply_settles_only_letters_that_were_not_taken_over",
        ),
    ),
    Fault(
        5,
        "SIGTERM in the middle of a batch",
        "ends within its grace; none doubled, none in doubt; what is done is committed",
        (f"{WORKERS}::test_a_worker_that_is_told_to_end_leaves_nothing_in_doubt",),
    ),
    Fault(
        6,
        "workers join and leave every three seconds",
        "none lost, none doubled, no offset goes back",
        (f"{STORM}::test_workers_that_join_and_leave_without_a_pause_lose_and_double_nothing",),
    ),
    Fault(
        7,
        "Apache Kafka killed, and back later; or one node of three",
        "says so; resumes within 30 s of its return; nobody is started anew",
        (
            f"{BROKERS}::test_a_broker_that_goes_and_comes_back_is_read_on",
            f"{THREE}::test_one_node_of_three_that_is_killed_and_comes_back_loses_and_doubles_nothing",
            f"{CRASH}::test_no_letter_is_lost_when_the_broker_is_killed_at_random",
        ),
    ),
    Fault(
        8,
        "the topic is deleted and made again",
        "a condition says so; every event of the new topic is read, from its first",
        (f"{BROKERS}::test_a_topic_that_is_made_again_is_read_from_its_beginning",),
    ),
    Fault(
        9,
        "PostgreSQL away",
        "nothing is sent, partitions pause, the worker says so; then everything is sent once",
        (
            f"{LEDGER}::test_without_its_database_a_worker_sends_nothing_and_goes_on_when_it_is_back",
            "ledger/test_outage.py::test_a_server_that_is_away_holds_every_call_until_it_is_back",
        ),
    ),
    Fault(
        10,
        "PostgreSQL dies over a COMMIT",
        "the outcome is asked for, never guessed",
        (
            "ledger/test_outage.py::test_a_commit_whose_reply_was_lost_is_executed_once",
            "ledger/test_outage.py::test_a_take_over_whose_reply_was_lost_is_a_take_over",
        ),
    ),
    Fault(
        11,
        "no space for the SQLite ledger",
        "nothing is sent; a clear reason; goes on by itself",
        (
            f"{LEDGER}::test_without_space_a_worker_sends_nothing_and_goes_on_when_there_is_some",
            "ledger/test_sqlite.py::test_a_full_disk_holds_the_call_until_there_is_space",
        ),
    ),
    Fault(
        12,
        "two workers on one SQLite file",
        "the second is refused at its start, the first goes on",
        (f"{LEDGER}::test_a_second_worker_on_a_sqlite_file_is_refused_and_the_first_goes_on_sending",),
    ),
    Fault(
        13,
        "the line drops after the dot and before the 250",
        "in doubt, on record; `onInDoubt` is obeyed",
        (
            f"{RELAY}::test_a_line_that_drops_after_the_dot_is_a_doubt_that_follows_its_policy",
            "delivery/test_pipeline.py::test_a_letter_dropped_after_the_dot_is_in_doubt_and_sent_again",
            "delivery/test_pipeline.py::test_under_park_a_letter_dropped_after_the_dot_is_held_not_resent",
        ),
    ),
    Fault(
        14,
        "the relay answers a dot after minutes",
        "one copy, no rebalance, no takeover",
        (
            f"{RELAY}::test_a_relay_that_takes_long_to_answer_gets_one_copy",
            "smtp/test_timeouts.py::test_each_reply_has_the_timeout_of_rfc_5321",
        ),
    ),
    Fault(
        15,
        "RST at each SMTP verb",
        "tried again; a second copy only after the dot",
        (
            f"{RELAY}::test_a_reset_at_each_verb_costs_no_letter",
            f"{SMTP}::test_only_a_connection_lost_after_the_dot_leaves_a_letter_in_doubt",
        ),
    ),
    Fault(
        16,
        "421, 450, 451, 452, 454, 550, 552, 554 at every stage",
        "retried or failed as RFC 5321 says, and reported with their stage",
        (
            "faults/test_fault_replies.py::test_each_reply_at_each_stage_does_what_the_rules_say",
            f"{SMTP}::test_a_rejection_is_reported_with_its_stage_and_does_not_affect_other_letters",
            f"{SMTP}::test_421_answers_the_current_letter_and_ends_the_connection",
            "policy/test_replies.py::test_a_4yz_says_not_now_at_every_stage",
            "policy/test_replies.py::test_a_5yz_says_never_but_552_to_a_recipient_means_too_many",
        ),
    ),
    Fault(
        17,
        "two of three recipients refused",
        "three letters, three outcomes: one recipient a transaction",
        (f"{RELAY}::test_two_of_three_recipients_refused_are_three_outcomes",),
    ),
    Fault(
        18,
        "one SMTP host dead, another healthy",
        "the dead one's circuit opens after its failures; its letters wait or leave through the fallback",
        (
            f"{CIRCUIT}::test_a_dead_relay_is_left_alone_and_holds_up_nobody_elses_letters",
            f"{CIRCUIT}::test_while_a_relay_is_dead_letters_leave_through_the_fallback_and_the_record_says_so",
            f"{FALLBACK}::test_letters_of_a_dead_relay_leave_through_the_fallback_until_it_is_back",
        ),
    ),
    Fault(
        19,
        "a relay comes back after an hour",
        "one letter tries it first; then no more than the rate",
        (f"{CIRCUIT}::test_a_relay_that_comes_back_gets_one_letter_first_and_then_no_more_than_its_rate",),
    ),
    Fault(
        20,
        "a poisonous record at the head of a partition",
        "a dead letter with its reason; its neighbours are at most a second late",
        (
            f"{BROKERS}::test_a_record_that_cannot_be_read_holds_nobody_up",
            "delivery/test_poison.py::test_a_record_that_kills_three_times_is_poison_and_its_neighbours_pass",
            "delivery/test_isolated_render.py::test_a_record_that_ends_the_process_is_unsafe_and_the_next_has_a_new_process",
            "delivery/test_poison.py::test_a_record_that_takes_the_worker_with_it_is_found_over_several_lives",
        ),
    ),
    Fault(
        21,
        "a dead letter cannot be produced",
        "it waits in the outbox and is tried again; none is lost",
        (
            f"{REFUSED}::test_a_dead_letter_that_nobody_takes_is_in_the_ledger_before_its_offset_is_done",
            "kafka/test_dead_letter_publisher.py::test_a_letter_that_cannot_be_produced_waits_and_the_others_are_published",
            "kafka/test_consumer.py::test_a_dead_letter_is_not_acknowledged_until_the_broker_has_it",
        ),
    ),
    Fault(
        22,
        "an event of 30 MB",
        "a dead letter that says so; the worker's memory stays within its pod",
        (f"{BROKERS}::test_an_event_of_30_mb_is_a_dead_letter_and_no_flood",),
    ),
    Fault(
        23,
        "a worker's clock an hour wrong, either way",
        "no early takeover; expiry and retries by the database's time",
        (
            f"{LEDGER}::test_a_worker_whose_clock_is_wrong_keeps_the_databases_time",
            f"{SHARED}::test_the_time_is_the_database_s_however_wrong_the_machine_s_clock_is",
        ),
    ),
    Fault(
        24,
        "the operator killed at each step of its work",
        "the next one converges; no orphan, no second roll-out",
        (
            f"{KILLS}::test_an_operator_that_is_killed_at_a_step_is_followed_by_one_that_completes_it",
            f"{KILLS}::test_kills_one_after_the_other_leave_no_orphan_and_roll_nothing_out_twice",
        ),
    ),
    Fault(
        25,
        "the API server started anew, or its watches silent",
        "changes are seen soon after its return",
        (
            f"{LIFE}::test_the_death_of_the_api_server_is_survived",
            f"{LINE}::test_a_change_during_silent_watches_is_noticed_soon_after_they_resume",
        ),
    ),
    Fault(
        26,
        "an object deleted while the operator is down",
        "its workers stop on its return; nothing waits for a finalizer",
        (
            f"{CHILDREN}::test_a_profile_that_is_deleted_while_the_operator_is_down_loses_its_workers",
            f"{CHILDREN}::test_a_template_that_is_deleted_while_the_operator_is_down_is_no_longer_served",
        ),
    ),
    Fault(
        27,
        "a namespace deleted",
        "it goes",
        (f"{CHILDREN}::test_a_namespace_that_is_deleted_goes_and_the_operator_stays",),
    ),
    Fault(
        28,
        "a child object edited or deleted by hand",
        "put back",
        (
            f"{CHILDREN}::test_edited_objects_are_restored",
            f"{CHILDREN}::test_deleted_objects_are_created_again",
        ),
    ),
    Fault(
        29,
        "the relay's password is changed",
        "a refused login fails no letter; the new password is used within a minute, without a restart",
        (
            f"{SECRET}::test_a_password_that_changes_under_a_running_worker_fails_no_letter",
            "smtp/test_dialer.py::test_each_connection_reads_the_credentials_anew",
        ),
    ),
    Fault(
        30,
        "a template edited in the middle of a stream",
        "each letter is wholly of one revision, and the ledger says which",
        (f"{WORKERS}::test_a_template_that_changes_in_a_stream_leaves_each_letter_whole",),
    ),
    Fault(
        31,
        "dead letters replayed twice",
        "the second time sends nothing",
        ("faults/test_replay.py::test_dead_letters_that_are_replayed_twice_are_sent_once",),
    ),
)
