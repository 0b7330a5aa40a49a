//! Date (RFC 9110 section 5.6.7: IMF-fixdate).

use ushabti_proto::http1::encode::http_date;

const DAY: u64 = 86_400;

fn text(unix_seconds: u64) -> String {
    String::from_utf8(http_date(unix_seconds).to_vec()).expect("a date is ASCII")
}

#[test]
fn known_moments() {
    for (unix_seconds, date) in [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (1, "Thu, 01 Jan 1970 00:00:01 GMT"),
        (86_399, "Thu, 01 Jan 1970 23:59:59 GMT"),
        (86_400, "Fri, 02 Jan 1970 00:00:00 GMT"),
        (68_169_599, "Mon, 28 Feb 1972 23:59:59 GMT"),
        (68_169_600, "Tue, 29 Feb 1972 00:00:00 GMT"),
        (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (946_684_799, "Fri, 31 Dec 1999 23:59:59 GMT"),
        (946_684_800, "Sat, 01 Jan 2000 00:00:00 GMT"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
        (1_000_000_000, "Sun, 09 Sep 2001 01:46:40 GMT"),
        (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT"),
        (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
        (2_147_483_648, "Tue, 19 Jan 2038 03:14:08 GMT"),
        (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
        (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        (4_294_967_296, "Sun, 07 Feb 2106 06:28:16 GMT"),
        (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
    ] {
        assert_eq!(text(unix_seconds), date);
    }
}

fn days_of_month(year: u64, month: usize) -> u64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month]
}

/// Against a calendar that is turned over day by day; 2000 is a leap year, 2100 and 2200 are not, 2400 is.
#[test]
fn every_day_up_to_2401_agrees_with_a_calendar() {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut days = 0;
    for year in 1970..=2401 {
        for (month, name) in MONTHS.iter().enumerate() {
            for day in 1..=days_of_month(year, month) {
                let weekday = WEEKDAYS[(days % 7) as usize];
                let date = format!("{weekday}, {day:02} {name} {year}");
                assert_eq!(text(days * DAY), format!("{date} 00:00:00 GMT"));
                assert_eq!(text(days * DAY + DAY - 1), format!("{date} 23:59:59 GMT"));
                days += 1;
            }
        }
    }
}

#[test]
fn every_second_of_a_day_is_written() {
    let start = 20_000 * DAY;
    for second in 0..DAY {
        let time = format!("{:02}:{:02}:{:02} GMT", second / 3600, second / 60 % 60, second % 60);
        assert!(text(start + second).ends_with(&time), "{time}");
    }
}

/// Nobody lives to see it, and no clock that is wrong may bring a server down.
#[test]
fn the_largest_number_of_seconds_does_not_panic() {
    assert!(text(u64::MAX).ends_with(" GMT"));
}
