using System.Text.Json.Serialization;
using MLNetLora.Checkpoints;

namespace MLNetLora.Models;

/// <summary>How rotary angles are made. Reads both spellings: rope_theta with rope_scaling, and the newer rope_parameters.</summary>
/// <param name="Type">default, linear or yarn.</param>
/// <param name="Theta">Base of the frequencies.</param>
/// <param name="Factor">Context extension factor; 1 for default.</param>
/// <param name="OriginalMaximumPositions">Context length before extension (yarn).</param>
/// <param name="AttentionFactor">Factor on cos and sin (yarn: 0.1·ln(factor)+1 unless given).</param>
/// <param name="BetaFast">Rotations above which a frequency is kept (yarn).</param>
/// <param name="BetaSlow">Rotations below which a frequency is interpolated whole (yarn).</param>
internal sealed record RopeParameters(
    string Type,
    double Theta,
    double Factor = 1,
    long OriginalMaximumPositions = 0,
    double AttentionFactor = 1,
    double BetaFast = 32,
    double BetaSlow = 1)
{
    /// <summary>
    /// Tokens beyond which angles and queries change in inference (Qwen1: seq_length); 0 where they never do.
    /// </summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)] // the records of older models are compared as text
    public int TrainedLength { get; init; }

    /// <summary>Whether prompts longer than <see cref="TrainedLength"/> have a larger base (Qwen1: use_dynamic_ntk).</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public bool DynamicNtk { get; init; }

    /// <summary>
    /// Whether the query at position p beyond <see cref="TrainedLength"/> counts log(p + 1) / log(length) times (Qwen1: use_logn_attn; Su 2021, "attention is
    /// scaled by the logarithm of the length").
    /// </summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public bool LogN { get; init; }

    /// <summary>NTK's alpha: the base is multiplied by alpha^(d / (d − 2)).</summary>
    [JsonIgnore]
    public double Alpha { get; init; } = 1;

    /// <summary>
    /// The angles of a row with this many tokens in its prompt, its answer's too: with dynamic NTK alpha is 2^⌈log₂(tokens / trained) + 1⌉ − 1, so 3, 7, 15, …
    /// for up to 2, 4, 8, … times the length (QWenModel.get_ntk_alpha). Off in training.
    /// </summary>
    public RopeParameters ForPrompt(int tokens) => DynamicNtk && tokens > TrainedLength
        ? this with { Alpha = Math.Pow(2, Math.Ceiling(Math.Log2((double)tokens / TrainedLength) + 1)) - 1 }
        : this;

    /// <summary>Reads config.json.</summary>
    /// <param name="file">The whole file.</param>
    /// <param name="maximumPositions">max_position_embeddings.</param>
    /// <param name="defaultTheta">rope_theta where the file has none.</param>
    /// <param name="partialRotary">Whether partial_rotary_factor is read elsewhere.</param>
    internal static RopeParameters Read(ConfigFile file, long maximumPositions, double defaultTheta, bool partialRotary = false)
    {
        ConfigFile? scaling = file.Section("rope_parameters") ?? file.Section("rope_scaling");
        double theta = scaling?.Positive("rope_theta") ?? file.Positive("rope_theta") ?? defaultTheta;
        string type = scaling?.Text("rope_type") ?? scaling?.Text("type") ?? "default";

        // Computed without these, the angles would be wrong without a word.
        foreach (string key in (string[])["mscale", "mscale_all_dim", "partial_rotary_factor", "truncate"])
        {
            if (!(partialRotary && key == "partial_rotary_factor")
                && (scaling?.Value(key) ?? file.Value(key))?.GetRawText() is { } text && text is not ("1" or "1.0" or "true"))
            {
                throw new CheckpointException($"{file.Path} sets {key} to {text}, which this version does not support.");
            }
        }

        if (type == "default" || scaling is null)
        {
            return new RopeParameters("default", theta);
        }

        double factor = scaling.Positive("factor") ?? 1;
        return type switch
        {
            "linear" => new RopeParameters("linear", theta, factor),
            "yarn" => new RopeParameters(
                "yarn",
                theta,
                factor,
                scaling.OptionalInt("original_max_position_embeddings", 1 << 30) ?? maximumPositions,
                scaling.Positive("attention_factor") ?? (factor <= 1 ? 1 : (0.1 * Math.Log(factor)) + 1),
                scaling.Positive("beta_fast") ?? 32,
                scaling.Positive("beta_slow") ?? 1),
            _ => throw new CheckpointException($"{file.Path} asks for the rotary scaling '{type}'; this library knows default, linear and yarn."),
        };
    }

    /// <summary>
    /// Tables of cos and sin for positions 0 to count−1, each [count, headSize / 2], in the arithmetic of transformers (frequencies and angles in float32).
    /// </summary>
    /// <param name="headSize">Size of one attention head, of the part of it that is rotated.</param>
    /// <param name="count">Number of positions.</param>
    /// <param name="queries">Whether they are for queries, with the factor of <see cref="LogN"/>.</param>
    public (float[] Cos, float[] Sin) Tables(int headSize, int count, bool queries = false)
    {
        float[] frequencies = Frequencies(headSize);
        int half = headSize / 2;
        float[] cos = new float[count * half];
        float[] sin = new float[count * half];
        for (int position = 0; position < count; position++)
        {
            double factor = queries && LogN && position >= TrainedLength ? AttentionFactor * Math.Log(position + 1, TrainedLength) : AttentionFactor;
            for (int i = 0; i < half; i++)
            {
                float angle = position * frequencies[i];
                cos[(position * half) + i] = (float)(Math.Cos(angle) * factor);
                sin[(position * half) + i] = (float)(Math.Sin(angle) * factor);
            }
        }

        return (cos, sin);
    }

    private float[] Frequencies(int headSize)
    {
        float[] result = new float[headSize / 2];
        double theta = Theta * Math.Pow(Alpha, headSize / (headSize - 2.0)); // Qwen1's head size is never 2
        (double low, double high) = (0, 0);
        if (Type == "yarn")
        {
            low = Math.Max(Math.Floor(CorrectionDimension(BetaFast)), 0);
            high = Math.Min(Math.Ceiling(CorrectionDimension(BetaSlow)), headSize - 1);
            high = low == high ? high + 0.001 : high;
        }

        for (int i = 0; i < result.Length; i++)
        {
            double plain = 1 / Math.Pow(theta, 2.0 * i / headSize);
            double ramp = Type switch { "linear" => 1, "yarn" => Math.Clamp((i - low) / (high - low), 0, 1), _ => 0 };
            result[i] = (float)((plain / Factor * ramp) + (plain * (1 - ramp)));
        }

        return result;

        // The pair of dimensions that turns this many times over the original context (Peng et al. 2023, arXiv:2309.00071, section 3.2).
        double CorrectionDimension(double rotations) =>
            headSize * Math.Log(OriginalMaximumPositions / (rotations * 2 * Math.PI)) / (2 * Math.Log(Theta));
    }
}
