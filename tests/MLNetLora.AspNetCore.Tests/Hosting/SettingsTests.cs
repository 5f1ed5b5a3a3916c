using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Options;

namespace MLNetLora.AspNetCore.Tests.Hosting;

/// <summary>Settings that mean nothing, or less than who wrote them thought.</summary>
public sealed class SettingsTests
{
    [Theory]
    [InlineData("Precision", "Wrong", "at:Precision is 'Wrong'; it must be one of Checkpoint, Int8")]
    [InlineData("Threads", "many", "at:Threads is 'many'; it must be a whole number up to 2147483647")]
    [InlineData("Threads", "", "at:Threads is ''")]
    [InlineData("MaximumCacheBytes", "1 GB", "at:MaximumCacheBytes is '1 GB'; it must be a whole number")]
    [InlineData("DownloadModel", "maybe", "at:DownloadModel is 'maybe'; it must be true or false")]
    [InlineData("WatchPeriod", "5min", "at:WatchPeriod is '5min'; it must be a time")]
    [InlineData("WatchPeriod", "5", "at:WatchPeriod is '5'; it must be a time")]
    [InlineData("Device", "gpu", "at:Device: ")]
    [InlineData("Device:DeviceId", "0", "at:Device:DeviceId is no setting")]
    [InlineData("Precison", "Int8", "at:Precison is none of the settings: ModelPath, ")]
    [InlineData("AdapterModules", "q_proj", "at:AdapterModules has a value of its own, but is a list: set at:AdapterModules:0 (as a variable ")]
    [InlineData("Adapters", "v1", "at:Adapters has a value of its own, but is a list: set at:Adapters:NAME ")]
    [InlineData("Adapters:v1:Path", "v1", "at:Adapters:v1 must be one text")]
    public void What_means_nothing_is_said_in_a_sentence(string key, string value, string sentence) =>
        Assert.StartsWith(sentence, Fault(new ServedModelOptions(), (key, value)), StringComparison.Ordinal);

    [Fact]
    public void Keys_in_the_place_of_their_list_are_no_open_service_and_stay_secret()
    {
        string fault = Fault(new ServingOptions(), ("ApiKeys", "sk-secret"));
        Assert.Contains("at:ApiKeys:0", fault, StringComparison.Ordinal);
        Assert.DoesNotContain("sk-secret", fault, StringComparison.Ordinal);
    }

    [Fact]
    public void All_faults_are_said_at_once()
    {
        OptionsValidationException error = Assert.Throws<OptionsValidationException>(
            () => Settings.Bind(Section(("Threads", "x"), ("Precision", "x")), new ServedModelOptions(), "support"));
        Assert.Equal(2, error.Failures.Count());
    }

    [Fact]
    public void What_is_others_is_left_to_them_and_what_is_empty_is_not_set()
    {
        ServedModelOptions options = new();
        Settings.Bind(Section(("Others:x", "y"), ("MaximumCacheBytes", ""), ("threads", "2"), ("WatchPeriod", "00:00:05")), options, "support", "others");
        Assert.Equal((2, null, TimeSpan.FromSeconds(5)), (options.Threads, options.MaximumCacheBytes, options.WatchPeriod));
    }

    private static string Fault(object options, params (string Key, string Value)[] settings) =>
        Assert.Single(Assert.Throws<OptionsValidationException>(() => Settings.Bind(Section(settings), options, "support")).Failures);

    private static IConfiguration Section(params (string Key, string Value)[] settings) =>
        new ConfigurationBuilder().AddInMemoryCollection(settings.Select(setting => KeyValuePair.Create($"at:{setting.Key}", (string?)setting.Value))).Build()
            .GetSection("at");
}
