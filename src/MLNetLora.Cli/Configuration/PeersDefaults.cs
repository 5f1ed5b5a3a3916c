namespace MLNetLora.Cli.Configuration;

/// <summary>Defaults of LLaMA-Factory that are not ours: a file that was written for it says nothing where it means them.</summary>
internal static class PeersDefaults
{
    private static readonly (string Setting, string Theirs)[] s_llamaFactory =
    [
        (nameof(TextGeneration.QwenLoraTrainer.Options.Rank), "8"),
        (nameof(TextGeneration.QwenLoraTrainer.Options.Alpha), "twice the rank"),
        (nameof(TextGeneration.QwenLoraTrainer.Options.Dropout), "0"),
        (nameof(TextGeneration.QwenLoraTrainer.Options.TargetModules), "all-linear"),
        (nameof(TextGeneration.QwenLoraTrainer.Options.BatchSize), "8"),
        (nameof(TextGeneration.QwenLoraTrainer.Options.GradientAccumulationSteps), "1"),
        (nameof(TextGeneration.QwenLoraTrainer.Options.LearningRate), "5e-5"),
        (nameof(TextGeneration.QwenLoraTrainer.Options.MaximumSequenceLength), "2048"),
        (nameof(TextGeneration.QwenLoraTrainer.Options.LabelScope), "all_assistant_turns"),
    ];

    /// <summary>One line about those that a file leaves unsaid; null where there are none.</summary>
    public static string? Line(SettingsReader reader)
    {
        if (!reader.IsLlamaFactory)
        {
            return null;
        }

        bool isFull = reader.Decisions.TryGetValue(nameof(TextGeneration.QwenLoraTrainer.Options.Method), out Decision? method)
            && method.Value is TextGeneration.FineTuningMethod.Full;
        string[] unsaid = [.. s_llamaFactory
            .Select(item => (Setting: SettingsTable.All.First(setting => setting.Name == item.Setting), item.Theirs))
            .Where(item => !reader.Decisions.ContainsKey(item.Setting.Name) && !(isFull && item.Setting.Group == SettingGroup.Lora))
            .Select(item => $"{item.Setting.Key} {item.Setting.Default} ({item.Theirs})")];
        return unsaid.Length == 0 ? null : $"unsaid, so by our defaults (LLaMA-Factory's): {string.Join(", ", unsaid)}.";
    }
}
