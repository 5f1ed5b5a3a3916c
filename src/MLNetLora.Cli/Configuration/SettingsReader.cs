using MLNetLora.Inference;
using MLNetLora.Runtime;

namespace MLNetLora.Cli.Configuration;

/// <summary>Something that was decided: a setting, its value, and what said so.</summary>
/// <param name="Setting">The setting's name.</param>
/// <param name="Value">Its value.</param>
/// <param name="From">What said so.</param>
internal sealed record Decision(string Setting, object? Value, Given From);

/// <summary>
/// Reads what files and the command line say. Files come first, in their order, then the command line: what comes later counts. Within one of them a setting
/// may be said once, under whatever name.
/// </summary>
internal sealed class SettingsReader(CommandKinds command)
{
    private readonly Dictionary<string, Decision> _decisions = [];
    private readonly List<(Given Given, string Reason)> _ignored = [];

    /// <summary>What was decided, by the setting's name.</summary>
    public IReadOnlyDictionary<string, Decision> Decisions => _decisions;

    /// <summary>Keys that were let through although they have no effect, with the reason.</summary>
    public IReadOnlyList<(Given Given, string Reason)> Ignored => _ignored;

    /// <summary>Whether a file is one of LLaMA-Factory's.</summary>
    public bool IsLlamaFactory { get; private set; }

    /// <summary>Reads a file.</summary>
    public void AddFile(string path)
    {
        MapValue map = ConfigFile.Read(path);
        List<Given> given = [];
        foreach ((string key, ConfigValue value) in map.Items)
        {
            if (Casing.Bare(key) == "generation" && value is MapValue generation)
            {
                // Names that training has too mean here what they mean for answers.
                given.AddRange(generation.Items.Select(item => new Given(
                    Lookup.Find("generation" + item.Key, command) is null ? item.Key : $"generation_{item.Key}", item.Value)));
            }
            else
            {
                given.Add(new Given(key, value));
            }
        }

        IsLlamaFactory |= given.Any(item => item.Key is "stage" or "finetuning_type" or "lora_target" or "cutoff_len");
        Add(given);
    }

    /// <summary>Reads one of several sources: all that one file says, or all of the command line.</summary>
    /// <exception cref="ConfigException">A key is not known, a value is none of its key, or something is said twice.</exception>
    public void Add(IReadOnlyList<Given> all)
    {
        Dictionary<string, Decision> said = [];
        Dictionary<CombinedKeys, Dictionary<string, Given>> together = [];
        foreach (Given given in all)
        {
            if (HasNul(given.Value))
            {
                throw given.Refused("it holds the character NUL, which no name and no text has.");
            }

            Meaning meaning = Lookup.Find(given.Key.TrimStart('-'), command) ?? throw Unknown(given);
            if (meaning.Foreign is { } foreign)
            {
                if (!foreign.Allows(given.Value))
                {
                    throw given.Refused($"{given.Value.Shown} cannot be had: {foreign.Reason} ({foreign.Accepts} is let through).");
                }

                _ignored.Add((given, foreign.Reason));
            }
            else if (given.Value.IsNull && given.Place.IsFile)
            {
                // null says nothing, as with the peers.
            }
            else if (meaning.Combined is { } combined)
            {
                string key = combined.Keys.First(known => Casing.Bare(known) == Casing.Bare(given.Key.TrimStart('-')));
                if (!together.TryGetValue(combined, out Dictionary<string, Given>? part))
                {
                    together[combined] = part = [];
                }

                part[key] = given with { Key = given.Place.IsFile ? key : given.Key };
            }
            else
            {
                Setting setting = meaning.Setting!;
                object? value = given.Value.IsNull && Nullable(setting) ? null : setting.Value(given, meaning.Alias);
                if (value != Setting.Unsaid)
                {
                    Say(setting.Name, value, given);
                }
            }
        }

        foreach ((CombinedKeys combined, Dictionary<string, Given> part) in together)
        {
            combined.Resolve(part, (setting, value, from) =>
            {
                if (setting == nameof(GenerationOptions.Temperature) && value is CombinedKeys.SamplingTemperature && said.ContainsKey(setting))
                {
                    return;
                }

                said.Remove(setting == nameof(GenerationOptions.Temperature) ? setting : "");
                Say(setting, value, from);
            });
        }

        foreach ((string name, Decision decision) in said)
        {
            _decisions[name] = decision;
        }

        void Say(string setting, object? value, Given from)
        {
            if (said.TryGetValue(setting, out Decision? before))
            {
                throw from.Refused($"{before.From.Key} ({before.From.Place}) says the same, "
                    + $"{SettingsTable.All.FirstOrDefault(other => other.Name == setting)?.Said ?? Casing.Snake(setting)}; one of them must go.");
            }

            said[setting] = new Decision(setting, value, from);
        }
    }

    /// <summary>Sets what was decided.</summary>
    /// <param name="settings">Gets the values.</param>
    /// <param name="filter">Which settings; null for all.</param>
    public void Apply(RunSettings settings, Func<Setting, bool>? filter = null)
    {
        foreach (Setting setting in SettingsTable.All)
        {
            if (_decisions.TryGetValue(setting.Name, out Decision? decision) && filter?.Invoke(setting) != false)
            {
                setting.Set(settings, decision.Value);
            }
        }

        settings.Evaluates = _decisions.TryGetValue(nameof(RunSettings.Evaluates), out Decision? evaluates) ? (bool?)evaluates.Value : settings.Evaluates;
        if (_decisions.TryGetValue(nameof(RunSettings.MixedPrecision), out Decision? mixed))
        {
            settings.MixedPrecision = ((ComputeType, Given))mixed.Value!;
        }
    }

    /// <summary>The settings, with what follows from others.</summary>
    public RunSettings Settings()
    {
        RunSettings settings = new();
        Apply(settings);
        Derived.Apply(settings, _decisions, (given, reason) => _ignored.Add((given, reason)));
        ValidateAnswers(settings.Generation);
        return settings;
    }

    // Training has options of the same names.
    private static void ValidateAnswers(GenerationOptions generation)
    {
        try
        {
            generation.Validate();
        }
        catch (OptionException e)
        {
            throw new OptionException($"{nameof(GenerationOptions)}.{e.Message}", e);
        }
    }

    /// <summary>One line that names the keys without effect; null where there are none.</summary>
    public string? IgnoredLine => _ignored.Count == 0 ? null : "ignored: " + string.Join("; ", _ignored.GroupBy(item => item.Reason)
        .Select(group => $"{string.Join(", ", group.Select(item => item.Given.Key).Distinct())} ({group.Key})")) + ".";

    private static bool HasNul(ConfigValue value) => value switch
    {
        ScalarValue scalar => scalar.Text.Contains('\0', StringComparison.Ordinal),
        ListValue list => list.Items.Any(HasNul),
        MapValue map => map.Items.Any(item => item.Key.Contains('\0', StringComparison.Ordinal) || HasNul(item.Value)),
        _ => false,
    };

    private static bool Nullable(Setting setting) => !setting.Type.IsValueType || System.Nullable.GetUnderlyingType(setting.Type) is not null;

    private static ConfigException Unknown(Given given) => given.Refused(
        $"there is no such key; the nearest one is {Casing.Nearest(given.Key.TrimStart('-'), Lookup.Keys)}. docs/cli.md lists them all.");
}
