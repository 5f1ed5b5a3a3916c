using System.Diagnostics;
using System.Numerics.Tensors;
using System.Text;
using MLNetLora.Inference;
using MLNetLora.Inference.Constraints;
using MLNetLora.Tests.Inference.Constraints;
using MLNetLora.Text;

namespace MLNetLora.Bench;

/// <summary>What constraints cost a token beside an unconstrained choice, over random schemas and random scores: the worst case for what is remembered, since
/// no two answers are alike.</summary>
internal static class ConstraintsBench
{
    public static void Run(string folder, int schemas, int answers)
    {
        QwenTokenizer tokenizer = QwenTokenizer.Load(folder);
        long begun = Stopwatch.GetTimestamp();
        Vocabulary vocabulary = Vocabulary.Of(tokenizer);
        Console.WriteLine(
            $"{tokenizer.VocabularySize} tokens in trees of {vocabulary.Tries.Sum(trie => trie.Labels.Length)} nodes: {Milliseconds(begun):F0} ms, once for a "
            + "tokenizer");
        begun = Stopwatch.GetTimestamp();
        _ = OutputConstraint.JsonObject;
        Console.WriteLine($"What all schemas share: {Milliseconds(begun):F0} ms, once for a process");

        Random random = new(13);
        RandomSchemas source = new(random);
        Answers writer = new(tokenizer);
        List<double> compile = [];
        List<double> first = [];
        List<double> later = [];
        int ended = 0;
        for (int i = 0; i < schemas; i++)
        {
            string schema = source.Next();
            begun = Stopwatch.GetTimestamp();
            OutputConstraint constraint = OutputConstraint.JsonSchema(schema);
            compile.Add(Milliseconds(begun) * 1000);
            for (int answer = 0; answer < answers; answer++)
            {
                ended += writer.Write(constraint, random, answer == 0 ? first : later) ? 1 : 0;
            }
        }

        Console.WriteLine($"{schemas} random schemas, {answers} answers to each, of which {ended} ended within {Answers.MostTokens} tokens; microseconds:");
        Print("schema read and compiled", compile);
        Print("token, first answer to a schema", first);
        Print("token, later answers", later);
        Print("choice of the highest score alone", writer.Choices);
        Console.WriteLine($"Managed memory in use: {GC.GetTotalMemory(forceFullCollection: true) / 1e6:F0} MB");
    }

    private static double Milliseconds(long begun) => Stopwatch.GetElapsedTime(begun).TotalMilliseconds;

    private static void Print(string what, List<double> values)
    {
        if (values.Count == 0)
        {
            return;
        }

        values.Sort();
        double At(double share) => values[Math.Min(values.Count - 1, (int)(values.Count * share))];
        Console.WriteLine(
            $"  {what,-36} {values.Count,8} times  mean {values.Average(),8:F1}  median {At(0.5),8:F1}  95% {At(0.95),8:F1}  99% {At(0.99),9:F1}  "
            + $"most {values[^1],9:F1}");
    }

    /// <summary>Answers of random scores, a little higher where tokens end things.</summary>
    private sealed class Answers
    {
        public const int MostTokens = 300;

        private readonly QwenTokenizer _tokenizer;
        private readonly float[] _bias;
        private readonly float[] _noise;
        private readonly float[] _logits;

        public Answers(QwenTokenizer tokenizer)
        {
            _tokenizer = tokenizer;
            _bias = new float[tokenizer.VocabularySize];
            _logits = new float[_bias.Length];
            Random random = new(1);
            _noise = [.. Enumerable.Range(0, _bias.Length * 8).Select(_ => random.NextSingle())];
            for (int id = 0; id < _bias.Length; id++)
            {
                _bias[id] = Encoding.UTF8.GetString(tokenizer.Bytes(id, skipSpecialTokens: true)).AsSpan().ContainsAny("\"}]") ? 0.25f : 0;
            }
        }

        public List<double> Choices { get; } = [];

        public bool Write(OutputConstraint constraint, Random random, List<double> times)
        {
            ITokenMask mask = constraint.Begin(_tokenizer, [], ThinkingPart.None);
            for (int i = 0; i < MostTokens; i++)
            {
                ReadOnlySpan<float> noise = _noise.AsSpan(random.Next(_noise.Length - _logits.Length), _logits.Length);
                TensorPrimitives.MultiplyAdd(_bias, 1 + (i / 50f), noise, _logits);
                long begun = Stopwatch.GetTimestamp();
                mask.Apply(_logits);
                double masked = Milliseconds(begun);
                begun = Stopwatch.GetTimestamp();
                int token = _logits.AsSpan().IndexOf(TensorPrimitives.Max<float>(_logits));
                Choices.Add(Milliseconds(begun) * 1000);
                begun = Stopwatch.GetTimestamp();
                bool isTaken = mask.Accept(token);
                times.Add((masked + Milliseconds(begun)) * 1000);
                if (!isTaken)
                {
                    throw new InvalidOperationException($"The mask allows token {token}, the grammar does not.");
                }

                if (mask.IsComplete)
                {
                    return true;
                }
            }

            return false;
        }
    }
}
