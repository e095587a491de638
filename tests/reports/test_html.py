import dataclasses
import json
import re
from itertools import cycle

import pytest
from helpers.html_page import Page

from haepo_jax.analysis.verdicts import RULE, VERDICTS
from haepo_jax.config import from_config_dict, to_json
from haepo_jax.reports.html import render
from haepo_jax.reports.page import Claim, ClaimsChapter, ConfigListing, Fairness, Figure, Report, Section, Table

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'


def claims(count, evidence="471 [455, 480]"):
    return tuple(
        Claim(f"claim {number}", f"Figure {number}", verdict, evidence, VERDICTS[-1] if number % 2 else "")
        for number, verdict in zip(range(count), cycle(VERDICTS), strict=False)
    )


DEFAULTS = to_json(from_config_dict({}))


def report(**changes):
    table = Table("Final return", ("algorithm", "mean [95%]", "steps"), (("PPO", "1.5 [1, 2]", "never"),), "A note.")
    full = Report(
        title="The paper’s experiments",
        first_paragraph="HAEPO is slower.",
        sections=(
            Section("walk", "Random walk", "Who?", ("PPO.",), (Figure(SVG, "a", "b", SVG),), (table,), claims(4)),
            Section("chain", "Chain", "What?", claims=claims(2)),
        ),
        configs=(
            ConfigListing("a-run", "A run", to_json(from_config_dict({"num_seeds": 5})), "python -m x", DEFAULTS),
        ),
        provenance={"date": "2025-01-01", "versions": {"jax": "0.11.2"}},
        fairness=Fairness(("All alike.",), (dataclasses.replace(table, marked=(0,), folded=True),)),
    )
    return dataclasses.replace(full, **changes)


def test_the_page_is_well_formed():
    page = Page(render(report(quick=True)))
    assert page.open == []
    identifiers = page.attributes("id")
    assert len(identifiers) == len(set(identifiers))


def test_nothing_is_needed_from_elsewhere():
    text = render(report())
    page = Page(text)
    references = page.attributes("src") + page.attributes("href") + page.attributes("srcset")
    assert [r for r in references if not r.startswith(("#", "data:"))] == ["https://arxiv.org/abs/2508.18884"]
    assert not {"link", "iframe", "object"} & {tag for tag, _ in page.elements}
    assert [attributes for tag, attributes in page.elements if tag == "script"] == [{}]
    assert "@import" not in text and text.count("url(") == text.count("url(#")


def test_links_within_the_page_lead_somewhere():
    page = Page(render(report()))
    anchors = {href[1:] for href in page.attributes("href") if href.startswith("#")}
    assert anchors == {"walk", "chain", "fairness", "configs", "provenance", "verdicts"}
    assert anchors <= set(page.attributes("id"))


def test_every_claim_has_its_verdict_and_a_link_to_its_study():
    text = render(report())
    rows = re.findall(r"<tr>.*?</tr>", re.search(r'<table class="claims">.*?</table>', text, re.DOTALL)[0])[1:]
    given = [(section, claim) for section in report().sections for claim in section.claims]
    assert len(rows) == len(given) == 6
    for row, (section, claim) in zip(rows, given, strict=True):
        said = "".join(Page(row).text)
        assert all(part in said for part in (claim.text, claim.source, claim.evidence))
        words = [word.strip() for word in re.findall(r"[✓✗=?] ([a-z ]+?)(?= recommended|\d| *471|$)", said)]
        assert words == [claim.verdict, *filter(None, [claim.recommended])]
        assert f'href="#{section.slug}"' in row


def test_verdicts_are_counted():
    tally = re.search(r'<ul class="tally">(.*?)</ul>', render(report()))[1]
    assert " ".join("".join(Page(tally).text).split()) == (
        "2 ✓ reproduced 2 ✗ contradicted 1 = no difference shown 1 ? undecided"
    )


def test_a_page_may_word_its_claims_and_verdicts_otherwise():
    words = {VERDICTS[0]: "reached <1>", VERDICTS[1]: "missed"}
    text = render(report(claims=ClaimsChapter("What became of the targets", "Target", "The rule & its end.", words)))
    assert "<h2>What became of the targets</h2>" in text and "<th>Target</th>" in text
    assert "The rule &amp; its end." in text and RULE[:40] not in text
    badges = re.findall(r'<span class="badge ([a-z-]+)"><span aria-hidden="true">.</span> ([^<]*)</span>', text)
    shown = {name: word for name, word in badges}
    assert shown[VERDICTS[0]] == "reached &lt;1&gt;" and shown[VERDICTS[1]] == "missed"
    assert shown[VERDICTS[3]] == VERDICTS[3]


def test_everything_is_escaped():
    evil = '<script>alert("1")</script>&\'"'
    table = Table(evil, (evil,), ((evil,),), evil)
    section = Section(
        "evil",
        evil,
        evil,
        (evil,),
        (Figure(SVG, evil, evil),),
        (table,),
        (Claim(evil, evil, "undecided", evil, "contradicted"),),
    )
    config = ConfigListing(evil, evil, {evil: evil}, evil, {})
    hostile = Report(evil, evil, (section,), (config,), {evil: evil}, Fairness((evil,), (table,)), quick=True)
    page = Page(render(hostile))
    assert page.open == []
    assert [tag for tag, _ in page.elements].count("script") == 1  # the page's own
    assert "".join(page.text).count(evil) > 15
    assert [attributes["aria-label"] for tag, attributes in page.elements if tag == "svg"] == [evil]


def test_the_quick_version_says_so():
    assert "not to be cited" in render(report(quick=True))
    assert "not to be cited" not in render(report())


def test_the_same_report_gives_the_same_page():
    assert render(report()) == render(report())


def test_parts_may_be_missing():
    page = Page(render(Report("Title", "Nothing yet.", ())))
    assert page.open == [] and "Nothing yet." in page.text


def test_types_are_made_from_json():
    claim = Claim(**json.loads('{"text": "t", "source": "s", "verdict": "contradicted", "evidence": "e"}'))
    table = Table(**json.loads('{"caption": "c", "columns": ["a", "b"], "rows": [["1", "2"]]}'))
    section = Section("s", "t", "q", ["f"], [], [table], [claim])
    assert Page(render(report(sections=[section]))).open == []


def test_columns_of_numbers_are_set_flush_right():
    cells = [
        ("PPO", "1.5 [1, 2]", "never", "60 of 64", "9 of them", "−3.1%", "1e-3"),
        ("HAEPO, sum", "12", "61k [40k, never]", "3 of 64", "8", "infinite", "5e-05"),
    ]
    text = render(report(fairness=Fairness((), (Table("t", tuple("abcdefg"), cells),)), sections=()))
    kinds = [attributes.get("class") for tag, attributes in Page(text).elements if attributes.get("scope") == "col"]
    assert kinds == [None, "number", "number", "number", None, "number", "number"]


def test_a_heading_may_break_behind_an_underscore():
    table = Table("t", ("learning_rate", "a<b"), (("1", "2"),))
    text = render(Report("Title", "Nothing.", (Section("s", "t", "q", tables=(table,)),)))
    assert '<th scope="col" class="number">learning_<wbr>rate</th>' in text and ">a&lt;b</th>" in text
    assert "".join(Page(re.search("<thead>.*</thead>", text)[0]).text) == "learning_ratea<b"


def test_marked_rows_carry_a_sign():
    text = render(report(fairness=Fairness((), (Table("t", ("a",), (("x",), ("y",)), marked=[1]),))))
    assert [row for row in re.findall(r"<tr.*?</tr>", text) if "✓" in row and "badge" not in row] == re.findall(
        r"<tr class=marked>.*?</tr>", text
    )
    assert "".join(Page(re.search(r"<tr class=marked>.*?</tr>", text)[0]).text) == "✓\xa0y"


def test_a_config_lists_its_differences_from_the_defaults_first():
    config = to_json(from_config_dict({"num_seeds": 5, "ppo": {"clip_epsilon": 0.3}}))
    text = render(report(configs=[ConfigListing("a-run", "A run", config, "python -m x", DEFAULTS)]))
    settings = re.search(r'<table class="settings">(.*?)</table>', text)[1]
    assert Page(settings).text == ["num_seeds", "5", "ppo.clip_epsilon", "0.3"]
    assert "All settings are the defaults." in render(
        report(configs=[ConfigListing("a", "b", DEFAULTS, "c", DEFAULTS)])
    )


def test_images_are_read_from_bytes_and_paths(tmp_path):
    path = tmp_path / "figure.png"
    path.write_bytes(b"\x89PNG\r\n")
    figures = (Figure(str(path), "png", ""), Figure(path, "png", ""), Figure(SVG, "svg", ""))
    page = Page(render(report(sections=[Section("s", "t", "q", (), figures)])))
    assert [source.split(";")[0] for source in page.attributes("src")] == ["data:image/png"] * 2
    assert [attributes["aria-label"] for tag, attributes in page.elements if tag == "svg"] == ["svg"]


def test_folded_figures_are_shown_on_demand():
    figures = [Figure(SVG, f"figure {k}", "c", folded=k > 1) for k in range(4)]
    text = render(report(sections=[Section("s", "t", "q", (), figures)]))
    folded = re.search(r"<details><summary>2 more figures</summary>(.*?)</details>", text, re.DOTALL)[1]
    assert re.findall("figure [0-9]", folded) == ["figure 2", "figure 3"]


def test_the_contents_stand_beside_the_page_and_name_every_chapter():
    text = render(report())
    contents = re.search(r"<nav.*?</nav>", text, re.DOTALL)[0]
    assert text.index("<nav") < text.index("<main>")
    assert re.findall('href="#([a-z]*)"', contents) == [
        *("verdicts", "walk", "chain", "fairness", "configs", "provenance")
    ]


def test_a_figure_of_all_claims_stands_before_their_table():
    text = render(report(overview=Figure(SVG, "all claims", "c")))
    assert text.index('aria-label="all claims"') < text.index('<table class="claims">')


def test_configs_of_one_kind_are_one_entry_with_what_tells_them_apart():
    configs = [
        ConfigListing(f"run-{rate}", "HAEPO", to_json(from_config_dict(values)), "python -m x", DEFAULTS)
        for rate in (1, 2)
        for values in [{"num_seeds": 5, "optimizer": {"learning_rate": rate / 100}}]
    ]
    alone = dataclasses.replace(configs[0], label="PPO", name="alone")
    text = render(report(configs=[configs[0], alone, configs[1]], sections=(), fairness=Fairness()))
    assert text.count("<summary>HAEPO (2 runs)</summary>") == 1 and text.count("python -m x") == 2
    common = re.search(r'<table class="settings">(.*?)</table>', text)[1]
    assert Page(common).text == ["num_seeds", "5"]
    apart = re.search(r"What tells them apart.*?<tbody>(.*?)</tbody>", text, re.DOTALL)[1]
    assert [part for part in Page(apart).text if part.strip()] == ["run-1", "0.01", "run-2", "0.02"]
    assert text.count("config.json of <code>run-") == 2


def refused(make):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the sentence is checked below
        make()
    (sentence,) = str(error.value).splitlines()
    return sentence


def test_wrong_input_is_refused_in_a_sentence():
    assert "'maybe'" in refused(lambda: Claim("t", "s", "maybe", "e"))
    assert "'mixed'" in refused(lambda: Claim("t", "s", "reproduced", "e", "mixed"))
    assert "row of 1" in refused(lambda: Table("c", ("a", "b"), (("1",),)))
    assert "'No Anchor'" in refused(lambda: Section("No Anchor", "t", "q"))
    assert "'configs'" in refused(lambda: Section("configs", "t", "q"))
    assert "'s'" in refused(lambda: report(sections=[Section("s", "t", "q")] * 2))
    figure = Figure(b"GIF89a", "a", "c")
    assert "GIF89a" in refused(lambda: render(report(sections=[Section("s", "t", "q", (), [figure])])))
