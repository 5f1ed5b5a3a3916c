using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;

namespace MLNetLora.Bench;

/// <summary>The files of a load test: a model with a template that has tools, adapters that answer visibly otherwise, and broken ones.</summary>
/// <param name="path">The folder.</param>
internal sealed class SoakFolder(string path)
{
    private const string Template = """
        {%- if tools %}{{- '<|im_start|>system\n# Tools\n' }}{%- for tool in tools %}{{- tool | tojson }}{{- '\n' }}{%- endfor %}
        {{- 'Calls are written as <tool_call>{"name": ..., "arguments": ...}</tool_call>.<|im_end|>\n' }}{%- endif %}
        {%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content }}
        {%- for call in message.tool_calls or [] %}{{- '<tool_call>\n' + (call.function | tojson) + '\n</tool_call>' }}{%- endfor %}{{- '<|im_end|>\n' }}
        {%- endfor %}
        {%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
        """;

    private static readonly (int Rank, TargetModules Targets)[] s_adapters =
    [
        (2, "all-linear"), (1, new[] { "q_proj", "v_proj" }), (4, "all-linear"), (8, new[] { "gate_proj", "up_proj", "down_proj" }), (3, "all-linear"),
        (16, new[] { "q_proj", "k_proj", "v_proj", "o_proj" }), (5, "all-linear"),
    ];

    /// <summary>The checkpoint that is served.</summary>
    public string Model { get; } = Path.Combine(path, "model");

    /// <summary>From where adapters are loaded over HTTP.</summary>
    public string Root { get; } = Path.Combine(path, "root");

    /// <summary>Where adapters appear.</summary>
    public string Watched { get; } = Path.Combine(path, "watched");

    /// <summary>What waits to be moved there; on the same volume.</summary>
    public string Staging { get; } = Path.Combine(path, "staging");

    /// <summary>The names of the adapters below <see cref="Root"/>.</summary>
    public static IReadOnlyList<string> Adapters { get; } = [.. s_adapters.Select((_, place) => $"w{place + 1}")];

    /// <summary>An adapter below <see cref="Root"/> that nobody can load.</summary>
    public const string Broken = "broken";

    /// <summary>What was not as it must be.</summary>
    public string Faults => Path.Combine(path, "faults.txt");

    /// <summary>A service's log.</summary>
    public string Log(int replica) => Path.Combine(path, $"service-{replica}.log");

    /// <summary>Writes everything.</summary>
    /// <param name="model">Whose checkpoint is served.</param>
    public void Write(string model)
    {
        foreach (string folder in new[] { Model, Root, Watched, Staging })
        {
            Directory.CreateDirectory(folder);
        }

        Copy(model, Model);
        File.WriteAllText(Path.Combine(Model, "chat_template.jinja"), Template);
        Checkpoint checkpoint = Checkpoint.Open(Model);
        foreach ((int place, (int rank, TargetModules targets)) in s_adapters.Index())
        {
            LoraAdapter adapter = LoraAdapter.Create(
                new LoraOptions { Rank = rank, Alpha = 2 * rank, Dropout = 0, TargetModules = targets }, checkpoint, place + 1);
            Random random = new(place);
            foreach (LoraFactors factors in adapter.Factors)
            {
                foreach (ref float value in factors.B.AsSpan())
                {
                    value = (random.NextSingle() - 0.5f) / 2;
                }
            }

            adapter.SaveAsPeft(Path.Combine(Root, Adapters[place]));
        }

        string broken = Path.Combine(Root, Broken);
        Copy(Path.Combine(Root, Adapters[0]), broken);
        using FileStream weights = File.OpenWrite(Path.Combine(broken, LoraAdapter.WeightsName));
        weights.SetLength(weights.Length / 2);
    }

    /// <summary>A copy of an adapter that may be moved.</summary>
    public string Copied(string adapter)
    {
        string to = Path.Combine(Staging, Guid.NewGuid().ToString("N"));
        Copy(Path.Combine(Root, adapter), to);
        return to;
    }

    private static void Copy(string from, string to)
    {
        Directory.CreateDirectory(to);
        foreach (string file in Directory.GetFiles(from))
        {
            File.Copy(file, Path.Combine(to, Path.GetFileName(file)), overwrite: true);
        }
    }
}
