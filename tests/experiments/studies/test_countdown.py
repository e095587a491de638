from experiments.studies.countdown import Countdown


def test_the_time_left_is_that_of_the_runs_that_are_left_at_the_mean_of_those_before():
    countdown = Countdown(4)
    assert countdown.words() == "run 1 of 4"
    countdown.finished(60)
    countdown.finished(120)
    assert countdown.words() == "run 3 of 4, about 3 min left"
    countdown.finished(6000)
    assert countdown.words() == "run 4 of 4, about 34 min left"
