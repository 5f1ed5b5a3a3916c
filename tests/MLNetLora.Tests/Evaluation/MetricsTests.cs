using System.Text.Json;
using MLNetLora.Evaluation;

namespace MLNetLora.Tests.Evaluation;

/// <summary>Metrics of texts against tests/golden/metrics: sacreBLEU and NLTK themselves, rouge_score's definition. tests/golden/README.md says how the
/// numbers were made.</summary>
public sealed class MetricsTests
{
    private static readonly JsonElement s_table = GoldenFile.Json(Path.Combine(Golden.Committed, "metrics", "cases.json"));

    public static TheoryData<string> Names => [.. Cases.Select(item => item.GetProperty("name").GetString()!)];

    private static IEnumerable<JsonElement> Cases => s_table.GetProperty("cases").EnumerateArray();

    [Fact]
    public void There_are_many_cases() => Assert.InRange(Names.Count, 25, int.MaxValue);

    [Theory]
    [MemberData(nameof(Names))]
    public void Scores_of_a_pair_are_those_of_the_packages(string name)
    {
        JsonElement item = Cases.Single(item => item.GetProperty("name").GetString() == name);
        string answer = item.GetProperty("answer").GetString()!;
        string reference = item.GetProperty("reference").GetString()!;
        Assert.Equal(item.GetProperty("exact_match").GetDouble(), ExactMatch.Is(answer, reference) ? 1 : 0);
        Near("chrf", ChrF.Sentence(answer, reference));
        Near("chrf_pp", ChrF.Sentence(answer, reference, ChrF.PlusPlus));
        Near("bleu4", Bleu.Sentence(answer, reference));
        foreach ((string key, RougeTokenizer tokenizer) in (ReadOnlySpan<(string, RougeTokenizer)>)
        [
            ("rouge_score", RougeTokenizer.RougeScore),
            ("unicode", RougeTokenizer.Unicode),
        ])
        {
            Rouge("rouge1", MLNetLora.Evaluation.Rouge.N(answer, reference, 1, tokenizer));
            Rouge("rouge2", MLNetLora.Evaluation.Rouge.N(answer, reference, 2, tokenizer));
            Rouge("rougeL", MLNetLora.Evaluation.Rouge.L(answer, reference, tokenizer));

            void Rouge(string type, RougeScore score)
            {
                double[] expected = [.. item.GetProperty(key).GetProperty(type).EnumerateArray().Select(number => number.GetDouble())];
                double[] actual = [score.Precision, score.Recall, score.FMeasure];
                Assert.All(expected.Zip(actual), pair => Assert.Equal(pair.First, pair.Second, 1e-12));
            }
        }

        void Near(string key, double actual) => Assert.Equal(item.GetProperty(key).GetDouble(), actual, 1e-11 * 100);
    }

    [Fact]
    public void ChrF_of_a_corpus_counts_over_all_rows()
    {
        (ChrF plain, ChrF words) = (new ChrF(), new ChrF(ChrF.PlusPlus));
        Assert.Equal(0, plain.Score);
        foreach (JsonElement item in Cases)
        {
            plain.Add(item.GetProperty("answer").GetString()!, item.GetProperty("reference").GetString()!);
            words.Add(item.GetProperty("answer").GetString()!, item.GetProperty("reference").GetString()!);
        }

        JsonElement corpus = s_table.GetProperty("corpus");
        Assert.Equal(corpus.GetProperty("chrf").GetDouble(), plain.Score, 1e-10);
        Assert.Equal(corpus.GetProperty("chrf_pp").GetDouble(), words.Score, 1e-10);
    }

    [Fact]
    public void Of_ASCII_texts_both_tokenizers_make_the_same_words()
    {
        Random random = new(3);
        for (int i = 0; i < 300; i++)
        {
            (string a, string b) = (Text(), Text());
            Assert.Equal(Rouge.L(a, b), Rouge.L(a, b, RougeTokenizer.RougeScore));
            Assert.Equal(Rouge.N(a, b, 2), Rouge.N(a, b, 2, RougeTokenizer.RougeScore));
        }

        string Text() => new([.. Enumerable.Range(0, random.Next(30)).Select(_ => (char)random.Next(128))]);
    }

    [Fact]
    public void Every_character_of_Chinese_is_a_word_by_default_and_none_for_rouge_score()
    {
        Assert.Equal(new RougeScore(2 / 3.0, 1), Rouge.L("在昆明", "昆明"));
        Assert.Equal(new RougeScore(0, 0), Rouge.L("昆明", "昆明", RougeTokenizer.RougeScore));
    }

    [Fact]
    public void Texts_that_are_no_Unicode_have_scores_too()
    {
        string broken = "a\ud83d b \udc4d\ud83d";
        Assert.True(ExactMatch.Is(broken, broken));
        Assert.Equal(100, ChrF.Sentence(broken, broken), 1e-9);
        Assert.Equal(1, Rouge.L(broken, broken).FMeasure);
        Assert.Equal(1, Bleu.Sentence(broken, broken), 1e-9);
        Assert.InRange(ChrF.Sentence(broken, "a\ud83e b \udc4d\ud83d"), 1, 99);
    }

    [Fact]
    public void Orders_and_tokenizers_that_do_not_exist_are_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => Rouge.N("a", "a", 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => Rouge.N("a", "a", 10));
        Assert.Throws<ArgumentOutOfRangeException>(() => Rouge.L("a", "a", (RougeTokenizer)7));
        Assert.Throws<ArgumentOutOfRangeException>(() => new ChrF(-1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new ChrF(10));
    }
}
