"""Which language a text is in: told of pieces, in the reference texts of the shared recordings too."""

import json

import pytest

from producer.parakeet_options import EUROPEAN
from producer.result import LANGUAGE_DRIFT, Segment
from worker.models.parakeet.drift import LanguageDetector
from worker.models.parakeet.languages import languages_of

# One sentence each, our own.
SENTENCES = {
    "bg": "Утре сутринта ще отидем заедно на пазара и ще купим хляб, сирене и пресни домати.",
    "cs": "Zítra ráno půjdeme společně na trh a koupíme chléb, sýr a čerstvá rajčata pro babičku.",
    "da": "I morgen tidlig går vi sammen på markedet og køber brød, ost og friske tomater til mor.",
    "de": "Morgen früh gehen wir zusammen auf den Markt und kaufen Brot, Käse und frische Tomaten.",
    "el": "Αύριο το πρωί θα πάμε μαζί στην αγορά και θα αγοράσουμε ψωμί, τυρί και φρέσκες ντομάτες.",
    "en": "Tomorrow morning we will go to the market together and buy bread, cheese and tomatoes.",
    "es": "Mañana por la mañana iremos juntos al mercado y compraremos pan, queso y tomates frescos.",
    "et": "Homme hommikul läheme koos turule ning ostame leiba, juustu ja värskeid tomateid.",
    "fi": "Huomenna aamulla menemme yhdessä torille ja ostamme leipää, juustoa ja tuoreita tomaatteja.",
    "fr": "Demain matin, nous irons ensemble au marché et nous achèterons du pain et du fromage.",
    "hr": "Sutra ujutro idemo zajedno na tržnicu i kupit ćemo kruh, sir i svježe rajčice za ručak.",
    "hu": "Holnap reggel együtt megyünk a piacra, és kenyeret, sajtot meg friss paradicsomot veszünk.",
    "it": "Domani mattina andremo insieme al mercato e compreremo pane, formaggio e pomodori freschi.",
    "lt": "Rytoj ryte kartu eisime į turgų ir nusipirksime duonos, sūrio ir šviežių pomidorų.",
    "lv": "Rīt no rīta mēs kopā iesim uz tirgu un nopirksim maizi, sieru un svaigus tomātus.",
    "mt": "Għada filgħodu mmorru flimkien fis-suq u nixtru l-ħobż, il-ġobon u t-tadam frisk.",
    "nl": "Morgenochtend gaan we samen naar de markt en kopen we brood, kaas en verse tomaten.",
    "pl": "Jutro rano pójdziemy razem na targ i kupimy chleb, ser oraz świeże pomidory na obiad.",
    "pt": "Amanhã de manhã vamos juntos ao mercado e compramos pão, queijo e tomates frescos.",
    "ro": "Mâine dimineață mergem împreună la piață și cumpărăm pâine, brânză și roșii proaspete.",
    "ru": "Завтра утром мы вместе пойдём на рынок и купим хлеб, сыр и свежие помидоры на обед.",
    "sk": "Zajtra ráno pôjdeme spolu na trh a kúpime chlieb, syr a čerstvé paradajky na obed.",
    "sl": "Jutri zjutraj gremo skupaj na tržnico in bomo kupili kruh, sir in sveže paradižnike.",
    "sv": "I morgon bitti går vi tillsammans till marknaden och köper bröd, ost och färska tomater.",
    "uk": "Завтра вранці ми разом підемо на ринок і купимо хліб, сир та свіжі помідори на обід.",  # noqa: RUF001 letters of Ukrainian
}


@pytest.fixture(scope="module")
def detector():
    """Return one of all languages; its model is loaded once."""
    return LanguageDetector(EUROPEAN)


def segments(*texts, seek=0):
    figures = {"avg_logprob": -0.1, "compression_ratio": 1.0, "start": 0.0, "end": 1.0}
    return [
        Segment(id=number, seek=seek + number * 3000, text=text, tokens=[], **figures)
        for number, text in enumerate(texts)
    ]


@pytest.mark.parametrize("language", EUROPEAN)
def test_each_language_is_told_by_a_sentence(detector, language):
    """All 25, and surely enough to speak against another."""
    found, probability = detector.detect(SENTENCES[language])
    assert found == language
    assert probability > 0.5


@pytest.mark.archive
def test_the_reference_texts_of_the_archive_are_told(detector, shared_data):
    """FLEURS in five languages, as people read them aloud."""
    lines = (shared_data / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    read = [each for each in map(json.loads, lines) if "fleurs" in each["path"]]
    assert len(read) == 25
    assert [detector.detect(each["reference"])[0] for each in read] == [
        each["language"] for each in read
    ]


@pytest.mark.parametrize("text", ["", " ", "1 2 3 " * 40, "Oui.", "Ja, gut.", "..." * 50])
def test_too_little_text_says_nothing(detector, text):
    """A yes, a number, a dot."""
    assert detector.detect(text) is None


def test_a_piece_in_another_language_is_flagged_and_its_neighbours_are_not(detector):
    """The recording's language is that of most of its text."""
    texts = [SENTENCES["fr"], SENTENCES["en"], SENTENCES["fr"], "Oui."]
    verdict = detector.judge(segments(*texts), ["fr"])
    assert [LANGUAGE_DRIFT in each.flags for each in verdict.segments] == [
        False,
        True,
        False,
        False,
    ]
    assert verdict.language == "fr"
    assert verdict.share == pytest.approx(2 / 3, abs=0.05)
    assert [each.text for each in verdict.segments] == texts


def test_sentences_of_a_piece_are_looked_at_together(detector):
    """Each alone would be too short."""
    found = segments(*SENTENCES["pl"].split(",")[0].split(maxsplit=3))
    together = [each.model_copy(update={"seek": 0}) for each in found]
    verdict = detector.judge(together, ["ru"])
    assert all(each.flags == [LANGUAGE_DRIFT] for each in verdict.segments)


def test_without_a_wish_nothing_is_flagged(detector):
    """But the language is told."""
    verdict = detector.judge(segments(SENTENCES["it"]), [])
    assert (verdict.language, verdict.segments[0].flags) == ("it", [])
    assert detector.judge(segments("Sì."), ["it"])[:2] == (None, None)


def test_languages_are_told_by_the_size_of_the_vocabulary():
    """Configurations do not say."""
    assert languages_of(1024) == languages_of(128) == ("en",)
    assert languages_of(8192) == EUROPEAN
    assert len(set(EUROPEAN)) == len(SENTENCES) == 25
