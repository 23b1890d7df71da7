use crate::support::check;

#[test]
fn mget_answers_in_the_order_asked_and_nil_for_absent_keys() {
    check(
        "
        MSET a 1 b 2 => OK
        MGET b x a => [2, (nil), 1]
        INCR a => 2
        GET a => 2
    ",
    );
}
