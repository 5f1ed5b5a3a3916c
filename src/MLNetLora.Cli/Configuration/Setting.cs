namespace MLNetLora.Cli.Configuration;

/// <summary>The commands that a setting counts for.</summary>
[Flags]
internal enum CommandKinds
{
    None = 0,
    Train = 1,
    Preflight = 2,
    Evaluate = 4,
    Generate = 8,
    Chat = 16,
    Learning = Train | Preflight,
    Answering = Evaluate | Generate | Chat,
    All = Learning | Answering,
}

/// <summary>Where a setting stands in help and documentation, in this order.</summary>
internal enum SettingGroup
{
    Model,
    Rows,
    Results,
    Lora,
    Steps,
    Optimization,
    Hardware,
    Prompts,
    MlColumns,
    Answers,
}

/// <summary>Another name of a setting, as a peer has it.</summary>
/// <param name="Key">The name.</param>
/// <param name="Read">How its values are read where they are not the setting's own; gives <see cref="Setting.Unsaid"/> for one that says nothing.</param>
internal sealed record Alias(string Key, Func<Given, object?>? Read = null)
{
    public static implicit operator Alias(string key) => new(key);
}

/// <summary>One row of the table that config keys, command line options, help and documentation are made of.</summary>
/// <param name="Name">Its name, that of the property behind it where there is one.</param>
/// <param name="Group">Where it is shown.</param>
/// <param name="Description">One sentence, without a full stop.</param>
/// <param name="Type">What its value is.</param>
/// <param name="Get">Reads it.</param>
/// <param name="Set">Sets it.</param>
internal sealed record Setting(
    string Name, SettingGroup Group, string Description, Type Type, Func<RunSettings, object?> Get, Action<RunSettings, object?> Set)
{
    /// <summary>What a peer's key reads as where its value says nothing.</summary>
    public static object Unsaid { get; } = new();

    /// <summary>The commands that have it.</summary>
    public CommandKinds On { get; init; } = CommandKinds.Learning;

    /// <summary>The peers' names.</summary>
    public IReadOnlyList<Alias> Aliases { get; init; } = [];

    /// <summary>Further names on the command line, with their hyphens.</summary>
    public IReadOnlyList<string> ShortNames { get; init; } = [];

    /// <summary>How a value is read where it is not just of the type.</summary>
    public Func<Given, object?>? Read { get; init; }

    /// <summary>What a value must be, for help, documentation and messages; null for what the type says.</summary>
    public string? Expects { get; init; }

    /// <summary>An example of a value; null for none.</summary>
    public string? Example { get; init; }

    /// <summary>What the library's messages call it; none for what the library does not know.</summary>
    public IReadOnlyList<string> LibraryNames { get; init; } = [];

    /// <summary>The name by which messages call it: the short one, where the command line has one of some letters.</summary>
    public string Said => ShortNames.FirstOrDefault(name => name.StartsWith("--", StringComparison.Ordinal)) ?? Option;

    /// <summary>The name on the command line.</summary>
    public string Option => "--" + Casing.Kebab(Name);

    /// <summary>The name in a file, as it is documented.</summary>
    public string Key => Casing.Snake(Name);

    public bool IsFlag => Type == typeof(bool) || Type == typeof(bool?);

    public bool IsList => Type == typeof(IReadOnlyList<string>) || Type == typeof(IReadOnlyList<int>) || Type == typeof(Adapters.TargetModules);

    /// <summary>What its value must be.</summary>
    public string Expected => Expects ?? Values.Expected(Type);

    /// <summary>Its value where nobody says anything.</summary>
    public string Default => Values.Show(Get(new RunSettings()));

    /// <summary>Reads a value under its own name or under a peer's.</summary>
    public object? Value(Given given, Alias? alias = null) => alias?.Read is { } read ? read(given) : Read is null ? Values.To(Type, given) : Read(given);
}
