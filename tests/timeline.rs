//! Timelines: every submission of a plan once, in order, with times that fit each other.

mod common;

use common::Draw;
use wgpu_lstm::{Dense, Lstm, Sequential};

mod on_adapter {
    use super::*;

    #[test]
    fn a_timeline_has_every_submission_in_order() {
        let device = common::adapter();
        let model = Sequential::new(3).add(Lstm::new(5)).add(Dense::new(2)).build(&device, 1).unwrap();
        let x = Draw::new(1).array3((600, 4, 3));
        let expected = model.predict(x.view()).unwrap();
        assert!(device.end_timeline().unwrap().is_empty(), "none was begun");
        if !device.begin_timeline(100).unwrap() {
            println!("skipped: {device} has no timestamps");
            return;
        }
        assert_eq!(model.predict(x.view()).unwrap(), expected);
        let all = device.end_timeline().unwrap();
        assert_eq!(all.len(), 3, "batches of 256, 256 and 88: {all:?}");
        for one in &all {
            assert!(one.dispatches > 0 && one.begun <= one.recorded && one.recorded <= one.submitted, "{one:?}");
            assert!(one.recorded <= one.started && one.started <= one.ended, "{one:?}");
        }
        for pair in all.windows(2) {
            assert!(pair[0].submitted <= pair[1].begun && pair[0].ended <= pair[1].started, "{pair:?}");
            let ahead = pair[1].ahead_of(&pair[0]).is_some();
            assert_eq!(ahead, pair[1].recorded <= pair[0].ended);
            assert_eq!(pair[1].idle_after(&pair[0]), pair[1].started - pair[0].ended);
        }
        assert!(device.end_timeline().unwrap().is_empty(), "it ended");
        // What goes beyond its room is left out.
        device.begin_timeline(2).unwrap();
        model.predict(x.view()).unwrap();
        assert_eq!(device.end_timeline().unwrap().len(), 2);
    }
}
