namespace MLNetLora.Cli.Configuration;

/// <summary>What a key means: a setting, under its own name or a peer's, a part of what several keys say together, or nothing.</summary>
internal sealed record Meaning(Setting? Setting, Alias? Alias, CombinedKeys? Combined, ForeignKey? Foreign);

/// <summary>Finds what keys mean. Case, hyphens and underscores do not count.</summary>
internal static class Lookup
{
    private static readonly Dictionary<string, List<Meaning>> s_meanings = Build();

    /// <summary>Every key, as it is documented.</summary>
    public static IEnumerable<string> Keys { get; } =
    [
        .. SettingsTable.All.Select(setting => setting.Key),
        .. SettingsTable.All.SelectMany(setting => setting.Aliases).Select(alias => alias.Key).Distinct(),
        .. CombinedKeys.All.SelectMany(combined => combined.Keys),
        .. ForeignKey.All.Select(foreign => foreign.Key),
    ];

    /// <summary>What a key means to a command; a setting of another command where it is none of this one's, null where nobody knows it.</summary>
    public static Meaning? Find(string key, CommandKinds command)
    {
        if (!s_meanings.TryGetValue(Casing.Bare(key), out List<Meaning>? meanings))
        {
            return null;
        }

        return meanings.FirstOrDefault(meaning => meaning.Setting is null || meaning.Setting.On.HasFlag(command)) ?? meanings[0];
    }

    private static Dictionary<string, List<Meaning>> Build()
    {
        Dictionary<string, List<Meaning>> all = [];
        foreach (Setting setting in SettingsTable.All)
        {
            Add(setting.Name, new Meaning(setting, null, null, null));
            foreach (Alias alias in setting.Aliases)
            {
                Add(alias.Key, new Meaning(setting, alias, null, null));
            }
        }

        foreach (CombinedKeys combined in CombinedKeys.All)
        {
            foreach (string key in combined.Keys)
            {
                // Before a setting of the same name: warmup_steps may be a share.
                string bare = Casing.Bare(key);
                all[bare] = [new Meaning(null, null, combined, null)];
            }
        }

        foreach (ForeignKey foreign in ForeignKey.All)
        {
            Add(foreign.Key, new Meaning(null, null, null, foreign));
        }

        return all;

        void Add(string key, Meaning meaning)
        {
            string bare = Casing.Bare(key);
            if (!all.TryGetValue(bare, out List<Meaning>? meanings))
            {
                all[bare] = meanings = [];
            }

            meanings.Add(meaning);
        }
    }
}
